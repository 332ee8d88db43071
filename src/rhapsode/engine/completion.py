"""Tokens of one answer -> its text, as it grows.

A token may end inside a character and a stop string may begin in one token and end in the next, so text is given out
only when both are certain. A token is reported together with the first character of it that is given out: joined texts
and joined tokens tell the same story. The token that ends an answer is reported too; it has no text.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rhapsode.engine.engine import Engine
from rhapsode.engine.output import FinishReason, Output, Scored
from rhapsode.engine.sampling import Sampling
from rhapsode.engine.stops import StopStrings
from rhapsode.text.stream import TextStream
from rhapsode.text.tokenizer import Tokenizer


class Spoken(NamedTuple):
    """A token of the answer; its text begins at character `offset` of the answer."""

    scored: Scored
    offset: int


class Piece(NamedTuple):
    """What a step added to the answer: perhaps no text, perhaps no token. The last piece has a `finish_reason`."""

    text: str
    tokens: tuple[Spoken, ...]
    finish_reason: FinishReason | None


class Completion:
    """One answer. Feed it every output of its request."""

    def __init__(self, tokenizer: Tokenizer, *, stop: Sequence[str] = ()) -> None:
        self.num_tokens = 0
        self._stream = TextStream(tokenizer)
        self._stops = StopStrings(stop)
        self._waiting: deque[Spoken] = deque()
        self._num_decoded = 0
        self._num_given = 0

    def push(self, output: Output) -> Piece:
        """The text that is now certain. With "stop" before the engine said so, the caller cancels the request.

        Raises:
            RhapsodeError: the request failed.
        """
        if output.error is not None:
            raise output.error
        text = "" if output.scored is None else self._read(output.scored, is_end=output.finish_reason == "stop")
        safe = self._stops.push(text)
        if output.finish_reason is not None and not self._stops.is_met:
            safe += self._stops.push(self._stream.finish())
            safe += self._stops.finish()
        finish: FinishReason | None = "stop" if self._stops.is_met else output.finish_reason
        self._num_given += len(safe)
        return Piece(safe, tuple(self._given(everything=finish is not None and not self._stops.is_met)), finish)

    def _read(self, scored: Scored, *, is_end: bool) -> str:
        self.num_tokens += 1
        self._waiting.append(Spoken(scored, self._num_decoded))
        if is_end:
            return ""
        text = self._stream.push(scored.token)
        self._num_decoded += len(text)
        return text

    def _given(self, *, everything: bool) -> Iterator[Spoken]:
        while self._waiting and (everything or self._waiting[0].offset < self._num_given):
            yield self._waiting.popleft()


def complete(
    engine: Engine, tokenizer: Tokenizer, prompt: Sequence[int], *, sampling: Sampling, stop: Sequence[str] = ()
) -> Iterator[Piece]:
    """One answer, piece by piece, on an engine of one's own. Leaving early cancels it."""
    completion = Completion(tokenizer, stop=stop)
    generation = engine.generate([prompt], sampling)
    try:
        for _, output in generation:
            piece = completion.push(output)
            yield piece
            if piece.finish_reason is not None:
                return
    finally:
        generation.close()
