"""`tokenizer.ggml.pre` and what a tokenizer.json does with a text before the vocabulary sees it: one table, both ways.

llama.cpp knows these ways by name and has them in its own code; here they are as the published tokenizer.json files
have them. Where a name stands for what others do too, the first of them is written.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from rhapsode.core.errors import RhapsodeError
from rhapsode.text.stages import SPLIT

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_MARKS_AND_SPACES = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_MARKS_SLASHES_AND_SPACES = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_BEFORE = r"[^\r\n\p{L}\p{N}]?"

ONE_DIGIT = rf"{_CONTRACTIONS}|{_BEFORE}\p{{L}}+|\p{{N}}|{_MARKS_AND_SPACES}"
BY_CASE = rf"{_BEFORE}{_UPPER}*{_LOWER}+|{_BEFORE}{_UPPER}+{_LOWER}*|\p{{N}}|{_MARKS_SLASHES_AND_SPACES}"
BY_CASE_WITH_ENDINGS = (
    rf"{_BEFORE}{_UPPER}*{_LOWER}+{_CONTRACTIONS}?|{_BEFORE}{_UPPER}+{_LOWER}*{_CONTRACTIONS}?"
    rf"|\p{{N}}{{1,3}}|{_MARKS_SLASHES_AND_SPACES}"
)
NFC = {"type": "NFC"}


class PreTokenizer(NamedTuple):
    """The parts of a tokenizer.json that are not the vocabulary: `ignore_merges` takes whole words that are tokens."""

    pre_tokenizer: dict[str, Any]
    normalizer: dict[str, Any] | None = None
    ignore_merges: bool = False
    adds_bos: bool = False


def _bytes(*, use_regex: bool) -> dict[str, Any]:
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}


def _sequence(*stages: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", "pretokenizers": list(stages)}


def _split(pattern: str) -> dict[str, Any]:
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return _sequence(split, _bytes(use_regex=False))


_GPT2 = _bytes(use_regex=True)
_DIGITS = _sequence({"type": "Digits", "individual_digits": True}, _GPT2)

PRE_TOKENIZERS = {
    "llama-bpe": PreTokenizer(_split(SPLIT), ignore_merges=True, adds_bos=True),
    "llama3": PreTokenizer(_split(SPLIT), ignore_merges=True, adds_bos=True),
    "llama-v3": PreTokenizer(_split(SPLIT), ignore_merges=True, adds_bos=True),
    "dbrx": PreTokenizer(_split(SPLIT)),
    "smaug-bpe": PreTokenizer(_split(SPLIT)),
    "qwen2": PreTokenizer(_split(ONE_DIGIT), NFC),
    "stablelm2": PreTokenizer(_split(ONE_DIGIT), NFC),
    "grok-2": PreTokenizer(_split(ONE_DIGIT)),
    "gpt-2": PreTokenizer(_GPT2),
    "phi-2": PreTokenizer(_GPT2),
    "olmo": PreTokenizer(_GPT2, NFC),
    "mpt": PreTokenizer(_GPT2, NFC),
    "smollm": PreTokenizer(_DIGITS),
    "starcoder": PreTokenizer(_DIGITS),
    "refact": PreTokenizer(_DIGITS),
    "tekken": PreTokenizer(_split(BY_CASE), ignore_merges=True, adds_bos=True),
    "gpt-4o": PreTokenizer(_split(BY_CASE_WITH_ENDINGS)),
}


def pre_tokenizer(name: str, *, where: str) -> PreTokenizer:
    """What `name` stands for.

    Raises:
        RhapsodeError: it is not in the table; the message begins with `where`.
    """
    if name not in PRE_TOKENIZERS:
        raise RhapsodeError(
            f"{where}: tokenizer.ggml.pre is {name[:40]!r}, which Rhapsode does not know",
            f"known: {', '.join(PRE_TOKENIZERS)}; take the model's safetensors, which hold its tokenizer whole",
        )
    return PRE_TOKENIZERS[name]


def name_of(shape: Mapping[str, Any]) -> str:
    """The name of what a parsed tokenizer.json does before its vocabulary; one with another normalizer is not it.

    Raises:
        RhapsodeError: none in the table does the same.
    """
    wanted = _essence(
        shape.get("pre_tokenizer"), shape.get("normalizer"), ignores=bool(shape["model"].get("ignore_merges"))
    )
    for name, known in PRE_TOKENIZERS.items():
        if _essence(known.pre_tokenizer, known.normalizer, ignores=known.ignore_merges) == wanted:
            return name
    raise RhapsodeError(
        "llama.cpp has no name for the way that tokenizer.json splits text before its vocabulary",
        f"these have: {', '.join(PRE_TOKENIZERS)}; export safetensors, which hold it as it is",
    )


def _essence(pre: Any, normalizer: Any, *, ignores: bool) -> Any:
    """What changes ids: offsets do not, defaults are spelled out, and a sequence of one is that one."""
    return _simple(pre, "pretokenizers"), _simple(normalizer, "normalizers"), ignores


def _simple(stage: Any, inner: str) -> Any:
    if not isinstance(stage, Mapping):
        return stage
    if stage.get("type") == "Sequence":
        stages = [_simple(part, inner) for part in stage.get(inner, [])]
        return stages[0] if len(stages) == 1 else stages or None
    usual = {"ByteLevel": {"use_regex": True, "add_prefix_space": True}, "Split": {"invert": False}}
    kept = {key: value for key, value in stage.items() if key != "trim_offsets"}
    return usual.get(stage.get("type", ""), {}) | kept
