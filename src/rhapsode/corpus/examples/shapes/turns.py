"""Turns of a conversation as files have them: OpenAI's `role` and `content`, and ShareGPT's `from` and `value`.

Near misses are not guessed at, they are named with the word that is meant: what is guessed in one row of a hundred
thousand is never looked at.
"""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from rhapsode.core.yaml import Key
from rhapsode.corpus.examples.example import Messages, Tools
from rhapsode.corpus.examples.fault import (
    BAD_ARGUMENTS,
    BAD_TOOL,
    NO_TURNS,
    UNKNOWN_ROLE,
    WEIGHTED,
    WRONG_TYPE,
    misshapen,
    wrong_type,
)
from rhapsode.text.chat import Function, Message, Role, ToolCall

_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
_SPEAKERS: dict[str, Role] = {
    **_ROLES,
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "function_call": "assistant",
    "observation": "tool",
    "function_response": "tool",
    "tool_response": "tool",
}
_MEANT = {"human": "user", "customer": "user", "prompter": "user", "observation": "tool", "function_response": "tool"}
_MEANT |= dict.fromkeys(("bot", "ai", "model", "gpt", "chatgpt", "agent", "function_call", "chatbot"), "assistant")
READ = frozenset({"role", "content", "tool_calls", "tool_call_id", "name", "function_call", "weight", "from", "value"})
_WEIGHTS = (None, 1, True)


def read_turns(value: object, key: Key) -> Messages:
    """The messages in a list, or a single one.

    Raises:
        Misshapen: it is none; `key` is its place in the row.
    """
    if isinstance(value, Mapping):
        return (_turn(value, key),)
    if not isinstance(value, list):
        wrong_type(value, key, wanted="a list of messages")
    if not value:
        misshapen(NO_TURNS, key, "an empty list", "a conversation needs at least one message")
    return tuple([_turn(row, (*key, index)) for index, row in enumerate(value)])


def read_tools(value: object, key: Key) -> Tools:
    """Tools as a list, or as JSON text; each in OpenAI's shape or as its function alone.

    Raises:
        Misshapen: one is no tool.
    """
    if isinstance(value, str):
        value = _parsed(value, key) if value.strip() else []
    if value is None:
        return ()
    if not isinstance(value, list):
        wrong_type(value, key, wanted="a list of tools")
    return tuple([_tool(tool, (*key, index)) for index, tool in enumerate(value)])


def source_key(rows: object, key: Key, rest: Key) -> Key:
    """Where in a list of turns, or a single one, what `rest` (index, field, ...) leads to stands."""
    index, *parts = rest
    assert isinstance(index, int)
    turn = rows[index] if isinstance(rows, list) and index < len(rows) else rows
    way = (*key, index) if isinstance(rows, list) else key
    if isinstance(turn, Mapping) and "from" in turn:
        names = {"role": "from"}
        return (*way, *(names.get(str(part), "value") for part in parts[:1]))
    if isinstance(turn, Mapping) and parts[:1] == ["tool_calls"] and "tool_calls" not in turn:
        return (*way, "function_call", *parts[3:])
    return (*way, *parts) if isinstance(turn, Mapping) else way


def _turn(row: object, key: Key) -> Message:
    if not isinstance(row, Mapping):
        wrong_type(row, key, wanted="an object with role and content")
    if "from" in row:
        return _spoken(row, key)
    role = _role(row.get("role"), (*key, "role"), known=_ROLES)
    content = row.get("content")
    if len(row) == 2 and type(content) is str:
        return Message(role=role, content=content)
    if row.get("weight") not in _WEIGHTS:
        mend = "make it a row of prompt and completion, of which the completion alone is learned"
        misshapen(WEIGHTED, (*key, "weight"), "an answer that is not to be learned", mend)
    calls = _calls(row, key)
    return _made(
        key,
        role=role,
        content="" if content is None and calls else _content(content, (*key, "content")),
        tool_calls=calls,
        tool_call_id=row.get("tool_call_id") or None,
        name=(row.get("name") or None) if role == "tool" else None,
    )


def _made(key: Key, **fields: Any) -> Message:
    try:
        return Message(**fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = (*key, *(str(step) for step in first["loc"][:1]))
        message = first["msg"].removeprefix("Value error, ")
        misshapen(WRONG_TYPE, place, message, "correct or remove it")


def _spoken(row: Mapping[str, Any], key: Key) -> Message:
    """A turn of ShareGPT, where a call is a turn of its own."""
    role = _role(row["from"], (*key, "from"), known=_SPEAKERS)
    value = row.get("value")
    if not isinstance(value, str):
        wrong_type(value, (*key, "value"), wanted="text")
    if row["from"] != "function_call":
        return Message(role=role, content=value)
    found = _parsed(value, (*key, "value"))
    calls = found if isinstance(found, list) else [found]
    return Message(role=role, content="", tool_calls=tuple([_call(call, (*key, "value")) for call in calls]))


def _role(value: object, key: Key, *, known: Mapping[str, Role]) -> Role:
    if not isinstance(value, str):
        wrong_type(value, key, wanted="text")
    role = known.get(value)
    if role is None:
        said = value.strip().lower()
        meant = _MEANT.get(said) or (said if said in known else None)
        mend = f"say {meant}" if meant else f"say one of {', '.join(known)}"
        misshapen(UNKNOWN_ROLE, key, repr(value[:40]), mend)
    return role


def _content(value: object, key: Key) -> str:
    """Text, or OpenAI's list of parts if all of them are text."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        wrong_type(value, key, wanted="text")
    for index, part in enumerate(value):
        if not (isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str)):
            misshapen(WRONG_TYPE, (*key, index), "no part of type text", "only text can be learned; leave the rest out")
    return "".join(part["text"] for part in value)


def _calls(row: Mapping[str, Any], key: Key) -> tuple[ToolCall, ...]:
    if row.get("function_call") is not None:  # OpenAI's older name for a single call
        return (_call(row["function_call"], (*key, "function_call")),)
    calls = row.get("tool_calls")
    if calls is None:
        return ()
    if not isinstance(calls, list):
        wrong_type(calls, (*key, "tool_calls"), wanted="a list of calls")
    return tuple([_call(call, (*key, "tool_calls", index)) for index, call in enumerate(calls)])


def _call(value: object, key: Key) -> ToolCall:
    """OpenAI's shape, or the function alone; arguments as text, or as the object that the text would spell."""
    if not isinstance(value, Mapping):
        wrong_type(value, key, wanted="an object with name and arguments")
    if isinstance(value.get("function"), Mapping):
        key, function = (*key, "function"), value["function"]
    else:
        function = value
    name, arguments = function.get("name"), function.get("arguments")
    if not isinstance(name, str) or not name:
        wrong_type(name or None, (*key, "name"), wanted="the name of a tool")
    text = arguments if isinstance(arguments, str) else json.dumps({} if arguments is None else arguments)
    try:
        made = Function(name=name, arguments=text)
    except ValidationError as error:
        what = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
        misshapen(BAD_ARGUMENTS, (*key, "arguments"), what, 'write an object as JSON text: "{\\"city\\": \\"Paris\\"}"')
    identity = value.get("id")
    return ToolCall(id=identity if isinstance(identity, str) and identity else None, function=made)


def _tool(value: object, key: Key) -> Mapping[str, Any]:
    function = value.get("function", value) if isinstance(value, Mapping) else None
    if not (isinstance(function, Mapping) and isinstance(function.get("name"), str) and function["name"]):
        misshapen(BAD_TOOL, key, "no tool", 'write {"type": "function", "function": {"name": ..., "parameters": ...}}')
    return {"type": "function", "function": dict(function)}


def _parsed(text: str, key: Key) -> object:
    try:
        value: object = json.loads(text)
    except json.JSONDecodeError as error:
        misshapen(BAD_ARGUMENTS, key, f"not JSON at character {error.pos + 1}: {error.msg}", "write JSON as text")
    except (ValueError, RecursionError):
        misshapen(BAD_ARGUMENTS, key, "JSON that is nested too deeply or has a number too long", "write less of it")
    return value
