"""ChatML, which the models trained here speak, with tools as Hermes and Qwen write them.

Tools are listed in the system turn, a call is `<tool_call>` around an object of name and arguments, a result is a turn
of its own in `<tool_response>`. Ids are made piece by piece, never by reading a rendered string, so the boundaries of
turns are known, not searched for: the loss mask is exact, rendering a conversation's beginning gives a prefix of
rendering the whole, and a generation prompt is a prefix of every answer to it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from rhapsode.core.errors import RhapsodeError

if TYPE_CHECKING:
    from rhapsode.text.chat import Message, ToolCall
    from rhapsode.text.tokenizer import Tokenizer

START_OF_TURN, END_OF_TURN = "<|im_start|>", "<|im_end|>"

TOOLS_BEFORE = (
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>"
)
TOOLS_BEHIND = (
    "\n</tools>\n\nFor each function call, return a json object with function name and arguments within "
    '<tool_call></tool_call> XML tags:\n<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n'
    "</tool_call>"
)


def literal(text: str) -> str:
    """`text` as a string in jinja. It has neither a backslash nor a single quote."""
    return "'" + text.replace("\n", "\\n") + "'"


CHATML = (
    "{{ bos_token }}"
    "{% if tools %}"
    "{{ '<|im_start|>system\\n' }}"
    "{% if messages[0]['role'] == 'system' %}{{ messages[0]['content'] + '\\n\\n' }}{% endif %}"
    "{{ " + literal(TOOLS_BEFORE) + " }}"
    "{% for tool in tools %}{{ '\\n' + (tool | tojson) }}{% endfor %}"
    "{{ " + literal(TOOLS_BEHIND) + " + '<|im_end|>\\n' }}"
    "{% endif %}"
    "{% for message in messages %}"
    "{% set content = message['content'] or '' %}"
    "{% if message['role'] == 'tool' %}"
    "{{ '<|im_start|>tool\\n<tool_response>\\n' + content + '\\n</tool_response><|im_end|>\\n' }}"
    "{% elif not (tools and loop.first and message['role'] == 'system') %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + content }}"
    "{% for call in message['tool_calls'] or [] %}"
    "{% set arguments = call['function']['arguments'] %}"
    "{{ '\\n' if content or not loop.first else '' }}"
    "{{ '<tool_call>\\n{\"name\": ' + (call['function']['name'] | tojson) + ', \"arguments\": ' }}"
    "{% if arguments is string %}{{ arguments }}{% else %}{{ arguments | tojson }}{% endif %}"
    "{{ '}\\n</tool_call>' }}"
    "{% endfor %}"
    "{{ '<|im_end|>\\n' }}"
    "{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


class Learned(NamedTuple):
    """Token ids, and for each whether the model learns it."""

    ids: list[int]
    mask: list[bool]


def render_chatml(
    messages: Sequence[Message],
    *,
    tokenizer: Tokenizer,
    tools: Sequence[Mapping[str, Any]],
    add_generation_prompt: bool,
) -> Learned:
    """The ids that `CHATML` gives; answers and the tokens that end them are learned.

    Raises:
        RhapsodeError: a system message is not the first.
    """
    start, line_end = tokenizer.special(START_OF_TURN), tokenizer.encode("\n")
    ids, mask = [tokenizer.bos], [False]

    def add(piece: list[int], *, is_learned: bool = False) -> None:
        ids.extend(piece)
        mask.extend([is_learned] * len(piece))

    for role, text in _turns(messages, tools):
        if role == "assistant":
            add([start, *tokenizer.encode("assistant\n")])
            add([*tokenizer.encode(text), tokenizer.end_of_turn], is_learned=True)
        else:
            add([start, *tokenizer.encode(f"{role}\n{text}"), tokenizer.end_of_turn])
        add(line_end)
    if add_generation_prompt:
        add([start, *tokenizer.encode("assistant\n")])
    return Learned(ids, mask)


def _turns(messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Who speaks, and what stands in the turn."""
    has_system = messages[0].role == "system"
    if tools:
        said = messages[0].content + "\n\n" if has_system else ""
        yield "system", said + listed(tools)
    for index, message in enumerate(messages):
        if message.role == "system" and index:
            raise RhapsodeError(
                f"messages[{index}].role: a system message may only be the first",
                "move it to the front or make it user",
            )
        if message.role == "tool":
            yield "tool", f"<tool_response>\n{message.content}\n</tool_response>"
        elif message.role != "system" or not tools:
            yield message.role, spoken(message)


def spoken(message: Message) -> str:
    """What a message says, and the calls behind it."""
    return "\n".join(filter(None, (message.content, *map(_call, message.tool_calls))))


def listed(tools: Sequence[Mapping[str, Any]]) -> str:
    """How a model is told of its tools."""
    lines = "".join("\n" + json.dumps(tool, ensure_ascii=False) for tool in tools)
    return TOOLS_BEFORE + lines + TOOLS_BEHIND


def _call(call: ToolCall) -> str:
    name = json.dumps(call.function.name, ensure_ascii=False)
    return f'<tool_call>\n{{"name": {name}, "arguments": {call.function.arguments}}}\n</tool_call>'
