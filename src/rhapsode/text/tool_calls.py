"""Tool calls in what a model wrote: `<tool_call>` around a JSON object of name and arguments, as Hermes, Qwen and our
own templates have them.

What is no such object stays text: nobody guesses what was meant. Arguments in which `</tool_call>` itself stands end
there, and are text too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from pydantic import ValidationError

from rhapsode.core.errors import RhapsodeError
from rhapsode.text.chat import Function
from rhapsode.text.dialect import CALLED, written_call

if TYPE_CHECKING:
    from rhapsode.text.tokenizer import Tokenizer

OPEN, CLOSE = "<tool_call>", "</tool_call>"


class Said(NamedTuple):
    """The words of an answer, and what it wants called."""

    content: str
    calls: tuple[Function, ...]


class CallStream:
    """Feed an answer as it grows, take words and calls as soon as each is certain. White space around calls goes."""

    def __init__(self) -> None:
        self._held = ""
        self._has_called = False

    def push(self, text: str) -> list[str | Function]:
        """What is now certain, in its order."""
        self._held += text
        return [part for part in self._certain() if part]

    def finish(self) -> list[str | Function]:
        """What is left: a call that never ended is text."""
        rest, self._held = self._held, ""
        return [rest] if rest and not (self._has_called and rest.isspace()) else []

    def _certain(self) -> Iterator[str | Function]:
        while (start := self._held.find(OPEN)) >= 0:
            yield self._taken(len(self._held[:start].rstrip()))
            space, _, behind = self._held.partition(OPEN)
            inside, end, _ = behind.partition(CLOSE)
            if not end:
                return
            block, call = self._taken(len(space) + len(OPEN) + len(inside) + len(CLOSE)), _read(inside)
            self._has_called |= call is not None
            yield call or block
        begun = next((size for size in range(len(OPEN) - 1, 0, -1) if self._held.endswith(OPEN[:size])), 0)
        yield self._taken(len(self._held[: len(self._held) - begun].rstrip()))

    def _taken(self, size: int) -> str:
        text, self._held = self._held[:size], self._held[size:]
        return text


def read_calls(text: str) -> Said:
    """A whole answer."""
    stream = CallStream()
    parts = [*stream.push(text), *stream.finish()]
    words = "".join(part for part in parts if isinstance(part, str))
    return Said(words, tuple(part for part in parts if isinstance(part, Function)))


def opening(name: str | None) -> str:
    """How an answer begins that must call a tool, or the tool of this name; up to where a token may end."""
    return f"{OPEN}\n" if name is None else f'{OPEN}\n{{"name": {json.dumps(name, ensure_ascii=False)}, "arguments":'


def writes_calls(tokenizer: Tokenizer) -> bool:
    """Whether calls that the model writes under its template are read here, found out by having one written."""
    if {OPEN, CLOSE} & tokenizer.special_names:
        return False  # special tokens are never given out as text
    try:
        text = written_call(tokenizer.chat_template, tokenizer.names)
    except RhapsodeError:
        return False
    return read_calls(text).calls == (Function(name=CALLED.name, arguments=json.dumps(CALLED.arguments)),)


def require_calls(tokenizer: Tokenizer) -> None:
    """Raises: RhapsodeError: nobody here can read the calls of this model."""
    if not writes_calls(tokenizer):
        raise RhapsodeError(
            "the chat template of this model writes tool calls in a way that is not read here, or writes none",
            f"leave the tools out, or give the model a template that writes them in {OPEN}, as ChatML does here",
        )


def _read(inside: str) -> Function | None:
    try:
        value = json.loads(inside)
        if not (isinstance(value, Mapping) and value.keys() == {"name", "arguments"}):
            return None
        arguments = value["arguments"]
        return Function(name=value["name"], arguments=json.dumps(arguments)) if isinstance(arguments, dict) else None
    except (ValueError, ValidationError, RecursionError):
        return None
