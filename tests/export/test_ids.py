"""What is done about ids that differ; the reader is ours with a fault."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from rhapsode.conformance.torture import torture_strings
from rhapsode.core.errors import VerificationMismatch
from rhapsode.core.events import Event, Events
from rhapsode.export.gguf.ids import compare_conversations, compare_ids
from rhapsode.export.gguf.quirks import Quirk
from rhapsode.text.chat import Message, render
from rhapsode.text.tokenizer import Tokenizer

QUIRK = Quirk("</s>", "which it takes for an end")


class Faulty:
    """Reads as ours does, but for texts that `is_other` picks: those end in one more id."""

    def __init__(self, tokenizer: Tokenizer, is_other: Callable[[str], bool]) -> None:
        self._tokenizer, self._is_other = tokenizer, is_other

    def encode(self, text: str) -> list[int]:
        return self._tokenizer.ids(text) + [7] * self._is_other(text)

    def render(self, messages: Sequence[Message]) -> list[int]:
        return render(messages, tokenizer=self._tokenizer).ids + [7] * self._is_other(messages[-1].content)


@pytest.fixture
def ours(words_dir: Path) -> Tokenizer:
    return Tokenizer.load(words_dir)


def test_equal_ids_are_counted(ours: Tokenizer) -> None:
    assert compare_ids(Faulty(ours, lambda _: False), ours, quirks=[], events=Events()) == 2000


def test_the_first_string_that_differs_is_named_with_its_ids(ours: Tokenizer) -> None:
    strings = torture_strings(ours)
    number = next(number for number, text in enumerate(strings) if "naïve" in text)
    place = len(ours.ids(strings[number]))
    with pytest.raises(VerificationMismatch, match=f"string {number}, 'na.*from id {place} on") as found:
        compare_ids(Faulty(ours, lambda text: "naïve" in text), ours, quirks=[QUIRK], events=Events())
    assert "--unverified" in found.value.hint


def test_a_quirk_is_left_out_and_told(ours: Tokenizer) -> None:
    heard: list[Event] = []
    spelled = sum("</s>" in text for text in torture_strings(ours))
    reader = Faulty(ours, lambda text: "</s>" in text)
    found = compare_ids(reader, ours, quirks=[QUIRK], events=Events(heard.append))
    [warning] = [event.fields["message"] for event in heard if event.kind == "warning"]
    assert found == 2000 - spelled < 2000
    assert warning == f"{spelled} strings have other ids in llama.cpp: they spell '</s>', which it takes for an end"


def test_a_quirk_hides_no_other_difference(ours: Tokenizer) -> None:
    reader = Faulty(ours, lambda text: "</s>" in text or text == "a  b")  # the second is the first without its quirk
    with pytest.raises(VerificationMismatch, match="'a </s> b'"):
        compare_ids(reader, ours, quirks=[QUIRK], events=Events())


def test_a_conversation_that_differs_is_named(ours: Tokenizer) -> None:
    compare_conversations(Faulty(ours, lambda _: False), ours)
    with pytest.raises(VerificationMismatch, match="a conversation that ends in '  Who was"):
        compare_conversations(Faulty(ours, lambda text: "rhapsode" in text), ours)
