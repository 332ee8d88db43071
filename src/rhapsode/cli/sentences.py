"""What the terminal says of an event: a title for a stage, a sentence for a result, a warning.

Text of a model, or of documents, may hold what a terminal obeys: such characters are shown and not sent.
"""

from collections.abc import Callable, Mapping
from typing import Any

from rhapsode.core.units import format_bytes, format_count, format_joules, format_seconds

SHOWN_PROMPT = 24
SHOWN_COMPLETION = 60
"""Characters of a sample on its line: the end of the prompt, the beginning of what was written."""

TITLES = {
    "prepare": "Reading, cleaning and splitting the text",
    "tokenise": "Writing the text as tokens, with a vocabulary that is learned or given",
    "pace": "Measuring how fast this model learns here, to know what its time is worth in steps",
    "forecast": "Taking some real steps to forecast the cost",
    "train": "Training",
    "evaluate": "Measuring on held-out documents",
    "fetch": "Fetching the model",
    "convert": "Checking its weights, and converting them where they must be",
    "conformance": "Writing down what it says, as evidence for every reader",
    "write": "Writing the model",
    "prove": "Proving it: reading it back, and in llama.cpp",
}
SENTENCES = {
    "corpus": "{read:,} documents read, {kept:,} kept, {dropped:,} dropped, each for a reason that "
    "{path}/report.json tells",
    "tokens": "{tokens:,} tokens to learn from, {bytes_per_token:.2f} bytes each, in {rows:,} rows of {context}, "
    "{efficiency:.1%} filled; {held_out_documents} documents are held out and never trained on",
    "examples": "{examples:,} examples ({of}), {learned:,} tokens to learn of {read:,} to read, in {rows:,} rows "
    "of {context}, {efficiency:.1%} filled; {held_out:,} examples are held out and never trained on",
    "shared": "{shared:,} of {read:,} tokens to read are shared: what sequences begin with alike is computed once",
    "rewarded": "step {step}: the likeliest answers to {prompts} held-out prompts are worth {reward:.3f}; {solved:.0%} "
    "are right",
    "changed": "The plan has changed since it was last made ({hashes}):\n{listed}",
    "saved": "saved {path}",
    "determinism": "Determinism: {class}; {because}",
    "measuring": "Measuring this machine once, which takes about two seconds; `rhapsode doctor` measures again",
    "licence": "Licence: {name}, {url}\nIt asks: {asks}\nIts text: {place}",
}
WARNINGS = {
    "damaged": "{path} is passed over: {reason}",
    "save_failed": "{message}",
    "skipped": "step {step} is left out: {reason}",
    "rolled_back": "{message}",
    "resumed_elsewhere": "{message}",
    "lost": "rank {rank} on {host} is lost: {reason}",
    "warning": "{message}",
}


def sentence(kind: str, fields: Mapping[str, Any]) -> str | None:
    """What is said of an event; None where nothing is."""
    if kind in SENTENCES:
        return SENTENCES[kind].format(**fields)
    return _TOLD[kind](fields) if kind in _TOLD else None


def warning(kind: str, fields: Mapping[str, Any]) -> str | None:
    """The same for what is no good news."""
    return WARNINGS[kind].format(**fields) if kind in WARNINGS else None


def printable(text: str) -> str:
    """Text on one line, with visible signs for line ends and for what a terminal would obey."""
    shown = text.replace("\r\n", "\n").replace("\n", "\u23ce").replace("\t", " ")
    return "".join(character if character.isprintable() else _sign(character) for character in shown)


def _sign(character: str) -> str:
    code = ord(character)
    return chr(0x2400 + code) if code < 32 else "\u2421" if code == 127 else "\ufffd"


def _look(fields: Mapping[str, Any]) -> str:
    unit = fields.get("unit", "bits per byte")
    said = f"step {fields['step']}: {_bits(fields['bits_per_byte'])} {unit} on held-out documents"
    by_source = fields.get("by_source") or {}
    if len(by_source) < 2:
        return said
    return f"{said} ({', '.join(f'{source} {_bits(bits)}' for source, bits in by_source.items())})"


def _bits(value: float | None) -> str:
    return "no finite number of" if value is None else f"{value:.3f}"


def _samples(fields: Mapping[str, Any]) -> str:
    """A line a sample."""
    return "\n".join(
        f"  {_end(printable(sample['prompt']))} \u2192 {_beginning(printable(sample['completion']))}"
        for sample in fields["samples"]
    )


def _end(text: str) -> str:
    return text if len(text) <= SHOWN_PROMPT else f"\u2026{text[1 - SHOWN_PROMPT :]}"


def _beginning(text: str) -> str:
    return text if len(text) <= SHOWN_COMPLETION else f"{text[: SHOWN_COMPLETION - 1]}\u2026"


def _spent(fields: Mapping[str, Any]) -> str:
    by = ", ".join(f"{kind} {format_seconds(seconds)}" for kind, seconds in fields["seconds_by"].items())
    speed = fields["tokens_per_second"]
    return (
        f"spent {format_seconds(fields['seconds'])} ({by}), {format_count(speed) if speed else 'no'} tokens/s, "
        f"{format_bytes(fields['memory_bytes'])} of memory, {format_bytes(fields['disk_bytes'])} of disk, "
        f"{format_joules(fields['joules'])} ({energy_source(fields)})"
    )


def energy_source(fields: Mapping[str, Any]) -> str:
    """For example "an estimate: 310 s of processor time x 5 W a thread"."""
    kind = "measured" if fields["joules_are"] == "measured" else "an estimate"
    return f"{kind}: {fields['joules_how']}"


_TOLD: dict[str, Callable[[Mapping[str, Any]], str]] = {"validation": _look, "samples": _samples, "spent": _spent}
