"""What a program that reads the model is asked.

Every reader answers for the model that it has loaded, with whatever files and code it uses itself: that is what is put
to the test. A question that a reader has no way to answer is answered by `CannotAnswer`, and the report says so.

Shapes: T tokens, V vocabulary.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from rhapsode.core.errors import RhapsodeError
from rhapsode.text.chat import Message

Scores = np.ndarray[Any, np.dtype[np.float32]]


class CannotAnswer(RhapsodeError):
    """The reader has no way to answer this question; the message is the reason, to follow "not compared: "."""


class Reader(Protocol):
    """A model in a reader. Every method may raise `CannotAnswer`."""

    name: str

    def encode(self, text: str) -> list[int]:
        """The ids of a text, what the model puts before one included; what looks like a special token is text."""
        ...

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = False) -> list[int]:
        """The ids of a conversation by the reader's own template."""
        ...

    def all_scores(self, ids: Sequence[int], *, first: int = 0) -> Scores:
        """Scores [T - first, V] of what follows each token from number `first` on."""
        ...

    def greedy(self, ids: Sequence[int], n: int) -> list[int]:
        """The `n` likeliest tokens, one after the other; a token that would end an answer ends nothing here."""
        ...

    def stops(self) -> frozenset[int]:
        """The tokens that end an answer."""
        ...
