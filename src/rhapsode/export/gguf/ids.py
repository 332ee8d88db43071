"""Whether llama.cpp reads the same ids from text as the tokenizer beside the model."""

from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from rhapsode.conformance.cases import questions
from rhapsode.conformance.torture import torture_strings
from rhapsode.core.errors import RhapsodeError, VerificationMismatch
from rhapsode.core.events import Events
from rhapsode.corpus.progress import Progress
from rhapsode.export.gguf.quirks import Quirk, without
from rhapsode.text.chat import Message, render
from rhapsode.text.tokenizer import Tokenizer

OUR_FAULT = "no file was left; this is a defect of Rhapsode or of llama.cpp, and --unverified writes the file anyway"


class Encoder(Protocol):
    """What of a reader the comparison of ids needs."""

    def encode(self, text: str) -> list[int]: ...
    def render(self, messages: Sequence[Message]) -> list[int]: ...


def compare_ids(reader: Encoder, tokenizer: Tokenizer, *, quirks: Sequence[Quirk], events: Events) -> int:
    """How many strings have the same ids; a warning tells of those that have not because of a quirk.

    Raises:
        VerificationMismatch: one has not; names it.
    """
    strings = torture_strings(tokenizer)
    left_out: Counter[Quirk] = Counter()
    progress = Progress(events, stage="ids", total=len(strings), unit="strings")
    for number, (text, ids) in enumerate(zip(strings, tokenizer.encode_batch(strings), strict=True)):
        ours, theirs = tokenizer.prefix + ids, reader.encode(text)
        if ours != theirs:
            found = [quirk for quirk in quirks if quirk.spelling in text]
            rest = without(text, found)
            if not found or tokenizer.ids(rest) != reader.encode(rest):
                raise VerificationMismatch(_different_ids(f"string {number},", text, ours, theirs), OUR_FAULT)
            left_out[found[0]] += 1
        progress.advance(1)
    progress.finish()
    for quirk, count in left_out.items():
        events.emit(
            "warning",
            message=f"{count} strings have other ids in llama.cpp: they spell {quirk.spelling!r}, {quirk.reason}",
        )
    return len(strings) - left_out.total()


def compare_conversations(reader: Encoder, tokenizer: Tokenizer) -> None:
    """Whether conversations have the same ids, as far as the model's template takes them.

    Raises:
        VerificationMismatch: one has not; names it.
    """
    for asked in questions(tokenizer):
        if not asked.messages or asked.is_look_alike:  # llama.cpp does not guard what users write
            continue
        try:
            ours = render(asked.messages, tokenizer=tokenizer).ids
        except RhapsodeError:
            continue
        theirs = reader.render(asked.messages)
        if ours != theirs:
            said = asked.messages[-1].content
            raise VerificationMismatch(_different_ids("a conversation that ends in", said, ours, theirs), OUR_FAULT)


def _different_ids(what: str, text: str, ours: Sequence[int], theirs: Sequence[int]) -> str:
    place = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs)))
    shown = repr(text if len(text) <= 60 else text[:59] + "…")
    around = slice(max(0, place - 1), place + 3)
    return (
        f"llama.cpp reads other ids from {what} {shown}: "
        f"from id {place} on ours are {list(ours[around])}…, llama.cpp's {list(theirs[around])}…"
    )
