"""How a chat template wants tool calls: found out by asking it.

Templates differ in what they take: arguments as an object (most) or as text (DeepSeek's), and for a call without words
a content that is empty, absent or null. One that is given another kind drops the call without a word, or writes "None".
So each template is shown a call and its result in every kind, once, and the first kind that comes out whole is used. A
template out of which none comes whole writes no tools.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from rhapsode.core.errors import RhapsodeError
from rhapsode.text.sandbox import SANDBOX

if TYPE_CHECKING:
    from rhapsode.text.chat import Message

Names = tuple[tuple[str, str], ...]

ANSWER = "probe-answer"


class Called(NamedTuple):
    """A call that templates are asked to write."""

    name: str
    arguments: Mapping[str, str]


CALLED = Called("probe-function", {"probe-key": "probe-value"})
_AS_TEXT = '{"probe-key": "probe-value"}'
_WHOLE = ("probe-function", "probe-key", "probe-value", "probe-result")
_SCHEMA = {"type": "object", "properties": {"x": {"type": "string", "description": "An x."}}}
_TOOLS = [{"type": "function", "function": {"name": "other", "description": "Another.", "parameters": _SCHEMA}}]


Silence = Literal["empty", "absent", "null"]


class Dialect(NamedTuple):
    """Whether arguments are text, else an object; what the content of a call without words is."""

    takes_text: bool
    silence: Silence

    def row(self, message: Message) -> dict[str, Any]:
        """The message as the template reads it: what it has not, the row has not."""
        row = message.row()
        if message.tool_calls and not message.content:
            row = _silent(row, self.silence)
        if not self.takes_text:
            for call, written in zip(message.tool_calls, row.get("tool_calls", ()), strict=True):
                written["function"]["arguments"] = call.function.values
        return row


_SILENCES: tuple[Silence, ...] = ("empty", "absent", "null")
_DIALECTS = [Dialect(takes_text, silence) for takes_text in (False, True) for silence in _SILENCES]
PLAIN = _DIALECTS[0]


def dialect_of(template: str, names: Mapping[str, str]) -> Dialect:
    """The dialect of a chat template. `names` are the tokens that have a role.

    Raises:
        RhapsodeError: it writes no tool calls, or no results.
    """
    return _dialect(template, tuple(names.items()))


def plain_answer(template: str, names: Mapping[str, str]) -> str:
    """A question and `ANSWER` as the template writes them, to see what ends an answer.

    Raises:
        RhapsodeError: it refuses them, or fails.
    """
    return _plain_answer(template, tuple(names.items()))


def written_call(template: str, names: Mapping[str, str]) -> str:
    """A question and the call `CALLED` as the template writes them.

    Raises:
        RhapsodeError: it writes no calls.
    """
    return _written_call(template, tuple(names.items()))


@lru_cache(maxsize=16)
def _written_call(template: str, names: Names) -> str:
    question, call, _ = _call_and_result(_dialect(template, names))
    return _rendered(template, names, [question, call])


@lru_cache(maxsize=16)
def _dialect(template: str, names: Names) -> Dialect:
    reason = ""
    for dialect in _DIALECTS:
        try:
            text = _rendered(template, names, _call_and_result(dialect))
        except RhapsodeError as error:
            reason = reason or f" ({error.message})"
            continue
        is_escaped = dialect.takes_text and '\\"' in text
        is_misread = dialect.silence == "null" and "None" in text
        if all(part in text for part in _WHOLE) and not is_escaped and not is_misread:
            return dialect
    raise RhapsodeError(
        f"the chat template of this model writes no tool calls and their results{reason}",
        "use conversations without tools, or a model whose template knows them",
    )


@lru_cache(maxsize=16)
def _plain_answer(template: str, names: Names) -> str:
    rows = [{"role": "user", "content": "probe"}, {"role": "assistant", "content": ANSWER}]
    return _rendered(template, names, rows)


def _call_and_result(dialect: Dialect) -> list[dict[str, Any]]:
    function = {"name": CALLED.name, "arguments": _AS_TEXT if dialect.takes_text else CALLED.arguments}
    call = {"id": "probe0001", "type": "function", "function": function}
    return [
        {"role": "user", "content": "probe"},
        _silent({"role": "assistant", "content": "", "tool_calls": [call]}, dialect.silence),
        {"role": "tool", "content": "probe-result", "tool_call_id": "probe0001", "name": "probe-function"},
    ]


def _silent(row: dict[str, Any], silence: Silence) -> dict[str, Any]:
    if silence == "absent":
        return {key: value for key, value in row.items() if key != "content"}
    return row if silence == "empty" else {**row, "content": None}


def _rendered(template: str, names: Names, rows: list[dict[str, Any]]) -> str:
    asked = {"messages": rows, "tools": _TOOLS, "documents": None, "add_generation_prompt": False}
    return SANDBOX.render(template, asked | dict(names))
