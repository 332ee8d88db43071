"""Rows that say the same again, and prompts that are answered in more than one way.

Neither is a fault: repeating is a way to weigh, and a question may have many answers. But both are told, for people
seldom know. Rows are compared by 64-bit hashes: among a million, two different ones are taken for equal once in 37
million files.
"""

from collections.abc import Hashable
from typing import NamedTuple

from rhapsode.corpus.examples.example import Completion, Conversation, Example, Feedback, Messages, Text

SHOWN = 3


class Again(NamedTuple):
    """Row `number` says again what row `first` said."""

    number: int
    first: int


class Repeats:
    """Feed every example. `equal` and `reanswered` hold the first few."""

    def __init__(self) -> None:
        self.num_equal = self.num_reanswered = 0
        self.equal: list[Again] = []
        self.reanswered: list[Again] = []
        self._rows: dict[int, int] = {}
        self._prompts: dict[int, int] = {}

    def add(self, number: int, example: Example) -> None:
        prompt, answer = _halves(example)
        asked = hash(prompt)
        first = self._rows.setdefault(hash((asked, answer)), number)
        if first != number:
            self.num_equal += 1
            if len(self.equal) < SHOWN:
                self.equal.append(Again(number, first))
        elif prompt is not None:
            first = self._prompts.setdefault(asked, number)
            if first != number:
                self.num_reanswered += 1
                if len(self.reanswered) < SHOWN:
                    self.reanswered.append(Again(number, first))


def _halves(example: Example) -> tuple[Hashable, Hashable]:
    """What is asked, None if nothing is, and what is answered."""
    match example:
        case Conversation():
            said = _said(example.messages)
            cut = next((i for i in range(len(said) - 1, -1, -1) if said[i][0] == "assistant"), 0)
            return said[:cut], said[cut:]
        case Completion():
            return _said(example.prompt), _said(example.completion)
        case Feedback():
            return _said(example.prompt), (_said(example.completion), example.label)
        case Text():
            return None, example.text
        case _:
            return _said(example.prompt), (_said(example.chosen), _said(example.rejected))


def _said(part: str | Messages) -> tuple[tuple[Hashable, ...], ...]:
    if isinstance(part, str):
        return (("", part),)
    return tuple([(m.role, m.content, m.tool_calls) if m.tool_calls else (m.role, m.content) for m in part])
