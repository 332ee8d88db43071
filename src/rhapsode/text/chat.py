"""Conversations as token ids: one function for training, evaluation, serving and export.

A model brings its chat template; `template` renders any. The models trained here speak ChatML, whose ids `chatml`
makes piece by piece. In neither can content forge a turn. Messages are OpenAI's: tools, calls and results included.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn, get_args

from pydantic import BeforeValidator, Field, ValidationError, ValidationInfo, field_validator, model_validator

from rhapsode.core.config import Config
from rhapsode.core.errors import RhapsodeError
from rhapsode.text.chatml import CHATML, END_OF_TURN, START_OF_TURN, render_chatml
from rhapsode.text.template import Conversation

if TYPE_CHECKING:
    from rhapsode.text.tokenizer import Tokenizer

Role = Literal["system", "user", "assistant", "tool"]


class Function(Config):
    """Which function is called, and with what."""

    name: str = Field(min_length=1, description="The name of a tool.")
    arguments: str = Field(description="A JSON object as text; spaces in it are made the same everywhere.")

    @field_validator("arguments")
    @classmethod
    def _one_spelling(cls, text: str) -> str:
        """As templates spell an object, so that it is the same tokens whoever renders it."""
        return json.dumps(_object(text), ensure_ascii=False)

    @property
    def values(self) -> dict[str, Any]:
        """The arguments by name."""
        return _object(self.arguments)


class ToolCall(Config):
    """A function that the assistant wants called. Where `id` is absent, results answer calls in their order."""

    id: str | None = Field(default=None, min_length=1, description="What the result refers to.")
    type: Literal["function"] = Field(default="function", description="There is no other kind.")
    function: Function = Field(description="Which, and with what.")


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else () if value is None else value


class Message(Config):
    """One turn of a conversation. Beside tool calls the content may be null, which is read as empty."""

    role: Role = Field(description="Who speaks: system (first message only), user, assistant, or tool for a result.")
    content: str = Field(description="What is said, word for word.")
    tool_calls: Annotated[tuple[ToolCall, ...], BeforeValidator(_as_tuple)] = Field(
        default=(), description="What the assistant wants called."
    )
    tool_call_id: str | None = Field(default=None, min_length=1, description="Of a result: the call that it answers.")
    name: str | None = Field(default=None, min_length=1, description="Of a result: the function that was called.")

    @model_validator(mode="before")
    @classmethod
    def _may_only_call(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("tool_calls") and value.get("content") is None:
            return {**value, "content": ""}
        return value

    @field_validator("tool_calls", "tool_call_id", "name")
    @classmethod
    def _belongs_to_its_role(cls, value: Any, info: ValidationInfo) -> Any:
        speaker = "assistant" if info.field_name == "tool_calls" else "tool"
        if value and info.data.get("role", speaker) != speaker:
            raise ValueError(f"a message of the {info.data['role']} has none, one of the {speaker} may have it")
        return value

    def row(self) -> dict[str, Any]:
        """Plain values in OpenAI's shape. What the message has not, the row has not."""
        row = self.model_dump(exclude_defaults=True, exclude={"tool_calls"})
        if self.tool_calls:
            row["tool_calls"] = [call.model_dump(exclude_none=True) for call in self.tool_calls]
        return row


@dataclass(frozen=True)
class Rendered:
    """Token ids of a conversation."""

    ids: list[int]
    make_mask: Callable[[], list[bool]] = field(repr=False, compare=False)

    @cached_property
    def mask(self) -> list[bool]:
        """True where the model learns: an answer, its tool calls, and the token that ends it. Made when asked for.

        Raises:
            RhapsodeError: the model's chat template does not say what belongs to an answer.
        """
        return self.make_mask()


def read_messages(rows: Sequence[object], *, where: str = "messages") -> list[Message]:
    """Messages from plain values such as parsed JSON.

    Raises:
        RhapsodeError: one is not a message; the error says which and why, beginning with `where`.
    """
    messages = []
    for index, row in enumerate(rows):
        try:
            messages.append(Message.model_validate(row))
        except ValidationError as error:
            first = error.errors()[0]
            key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"])
            message = first["msg"].removeprefix("Value error, ")
            raise RhapsodeError(f"{where}[{index}]{key}: {message}", _HINT) from None
    return messages


def render(
    messages: Sequence[Message],
    *,
    tokenizer: Tokenizer,
    add_generation_prompt: bool = False,
    tools: Sequence[Mapping[str, Any]] = (),
) -> Rendered:
    """The conversation's ids and loss mask; with `add_generation_prompt`, up to where the assistant begins to speak.

    The ids are those of transformers' `apply_chat_template`, but special tokens spelled in content stay text. For the
    ChatML that is written here there is one more difference: an answer that begins with an empty line is not joined
    with the line end before it, because a model that is generating could not have joined them.

    Args:
        tools: JSON Schemas of functions that the model may call, in OpenAI's shape.

    Raises:
        RhapsodeError: there is no message or no chat template, a role is unknown, a result answers no call, or the
            template refuses, fails, or writes no tools.
    """
    _check(messages)
    if not tokenizer.has_chat_template:
        raise RhapsodeError(
            "this model has no chat template: it was trained to complete text, not to answer",
            "use completion: rhapsode chat --complete, /v1/completions",
        )
    if tools and "tools" not in tokenizer.chat_template:
        raise RhapsodeError("the chat template of this model tells it of no tools", "leave the tools out")
    if _is_ours(tokenizer):
        ids, mask = render_chatml(
            messages, tokenizer=tokenizer, tools=tools, add_generation_prompt=add_generation_prompt
        )
        return Rendered(ids, lambda: mask)
    conversation = Conversation(messages, tokenizer=tokenizer, tools=tools)
    if not add_generation_prompt:  # nobody will answer: it is there to be learned from
        conversation.prepare(add_generation_prompt=False)
    ids = conversation.ids(conversation.text(add_generation_prompt=add_generation_prompt))
    return Rendered(ids, partial(conversation.mask, add_generation_prompt=add_generation_prompt))


def question_ids(text: str, *, tokenizer: Tokenizer, is_chat: bool) -> list[int]:
    """What a model reads that is asked this: a message to be answered if it learns to chat, else the text as it is."""
    if not is_chat:
        return tokenizer.ids(text)
    asked = Message(role="user", content=text)
    return render([asked], tokenizer=tokenizer, add_generation_prompt=True).ids


def _is_ours(tokenizer: Tokenizer) -> bool:
    """Whether pieces can be encoded one by one: nothing is put before a text, and turns have tokens of their own."""
    has_tokens = "bos_token" in tokenizer.names and {START_OF_TURN, END_OF_TURN} <= tokenizer.special_names
    return tokenizer.chat_template == CHATML and has_tokens and not tokenizer.lead


_HINT = (
    "a message is an object with role (system, user, assistant or tool) and content (text); "
    "an assistant's may have tool_calls, a tool's tool_call_id and name"
)


def _check(messages: Sequence[Message]) -> None:
    if not messages:
        raise RhapsodeError("there are no messages", "a conversation needs at least one message")
    num_waiting = 0
    for index, message in enumerate(messages):
        if message.role not in get_args(Role):
            raise RhapsodeError(f"messages[{index}].role: {message.role!r} is not a role", _HINT)
        if message.role != "tool":
            num_waiting = len(message.tool_calls)
        elif num_waiting:
            num_waiting -= 1
        else:
            raise RhapsodeError(
                f"messages[{index}].role: a tool's result that answers no call",
                "put it behind the assistant's message whose tool_calls ask for it",
            )


def _object(text: str) -> dict[str, Any]:
    """The JSON object that `text` spells.

    Raises:
        ValueError: it spells none, or one that others would read otherwise.
    """
    try:
        value = json.loads(text, object_pairs_hook=_distinct, parse_constant=_no_constant)
        json.dumps(value, allow_nan=False)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON at character {error.pos + 1}: {error.msg}") from None
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    return value


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("a key is there twice")
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
