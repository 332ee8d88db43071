"""Conversations under a model's own chat template: the ids that transformers makes, and what in them is learned.

The template writes a string, `markup` reads it. Nothing in a template says what belongs to an answer, so the loss mask
is proven instead: the prompt for an answer must be how the conversation with the answer begins, and that must be how
the whole conversation begins, both as text and as ids. What stands between the two ends is the answer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from rhapsode.core.errors import RhapsodeError
from rhapsode.text.sandbox import Sandbox

if TYPE_CHECKING:
    from rhapsode.text.chat import Message
    from rhapsode.text.tokenizer import Tokenizer

_SANDBOX = Sandbox()
_SURROGATE = re.compile("[\ud800-\udfff]")  # UTF-8 has no bytes for it, so others could not read it


class Conversation:
    """One conversation, shielded and ready to be rendered."""

    def __init__(
        self, messages: Sequence[Message], *, tokenizer: Tokenizer, tools: Sequence[Mapping[str, Any]] = ()
    ) -> None:
        self._tokenizer, self._markup = tokenizer, tokenizer.markup
        contents = [message.content for message in messages]
        self._shield = self._markup.shield([tokenizer.chat_template, *contents, *_strings(list(tools))])
        self._rows = [{"role": message.role, "content": self._covered(message.content)} for message in messages]
        self._tools = self._covered(list(tools)) or None

    def text(self, stop: int | None = None, *, add_generation_prompt: bool) -> str:
        """The messages before number `stop` as the template writes them, still shielded.

        Raises:
            RhapsodeError: the template fails, refuses them, or takes too long.
        """
        variables = {
            "messages": self._rows[:stop],
            "tools": self._tools,
            "documents": None,
            "add_generation_prompt": add_generation_prompt,
        }
        return _SANDBOX.render(self._tokenizer.chat_template, variables | dict(self._tokenizer.names))

    def ids(self, text: str) -> list[int]:
        return self._markup.ids(text, self._shield)

    def mask(self, *, add_generation_prompt: bool) -> list[bool]:
        """True for each id of an answer and of the token that ends it.

        Raises:
            RhapsodeError: the template does not let them be told apart; the error says why.
        """
        whole = self.text(add_generation_prompt=add_generation_prompt)
        ids = self.ids(whole)
        mask = [False] * len(ids)
        for index, row in enumerate(self._rows):
            if row["role"] == "assistant":
                start, stop = self._answer(index, whole)
                before, after = self.ids(whole[:start]), self.ids(whole[:stop])
                if ids[: len(before)] != before or ids[: len(after)] != after:
                    _refuse(index, "joins an answer with the text before it in one token")
                mask[len(before) : len(after)] = [True] * (len(after) - len(before))
        return mask

    def _answer(self, index: int, whole: str) -> tuple[int, int]:
        """From which character to which message `index` is the model's own."""
        prompt = self.text(index, add_generation_prompt=True)
        turn = self.text(index + 1, add_generation_prompt=False)
        if not turn.startswith(prompt):
            _refuse(index, "does not go on from the prompt for an answer with the answer")
        stop = self._end(turn, start=len(prompt), index=index)
        if whole[:stop] != turn[:stop]:
            _refuse(index, "writes an answer otherwise once the conversation goes on")
        return len(prompt), stop

    def _end(self, turn: str, *, start: int, index: int) -> int:
        """Behind the special token that ends the answer, which stands in one piece between two special tokens."""
        content = self._rows[index]["content"].strip()
        ends, last = [], start
        for place in self._markup.places(turn):
            if place.start >= start:
                if content in turn[last : place.start]:
                    ends.append(place.stop)
                last = place.stop
        if not ends:
            _refuse(index, "does not write an answer as it is and end it with a special token")
        return ends[-1] if content else ends[0]

    def _covered(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._markup.cover(_SURROGATE.sub("\ufffd", value), self._shield)
        if isinstance(value, Mapping):
            return {self._covered(key): self._covered(item) for key, item in value.items()}
        return [self._covered(item) for item in value] if isinstance(value, list | tuple) else value


def _strings(value: Any) -> list[str]:
    """Every string in a JSON value."""
    if isinstance(value, Mapping):
        return [text for pair in value.items() for part in pair for text in _strings(part)]
    if isinstance(value, list | tuple):
        return [text for item in value for text in _strings(item)]
    return [value] if isinstance(value, str) else []


def _refuse(index: int, what: str) -> NoReturn:
    raise RhapsodeError(
        f"messages[{index}]: this chat template {what}, so what the model learns cannot be told from what it reads",
        "use conversations of one answer each, or give the model another chat template",
    )
