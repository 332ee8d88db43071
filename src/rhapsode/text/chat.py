"""Conversations as token ids: one function for training, evaluation, serving and export.

A model brings its chat template; `template` renders any. The models trained here speak ChatML, whose ids are made
piece by piece, never by reading a rendered string, so the boundaries of turns are known, not searched for: the loss
mask is exact, rendering a conversation's beginning gives a prefix of rendering the whole, and a generation prompt is a
prefix of every answer to it. In neither can content forge a turn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Literal, get_args

from pydantic import Field, ValidationError

from rhapsode.core.config import Config
from rhapsode.core.errors import RhapsodeError
from rhapsode.text.template import Conversation

if TYPE_CHECKING:
    from rhapsode.text.tokenizer import Tokenizer

START_OF_TURN, END_OF_TURN = "<|im_start|>", "<|im_end|>"

CHATML = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

Role = Literal["system", "user", "assistant"]


class Message(Config):
    """One turn of a conversation."""

    role: Role = Field(description="Who speaks: system (first message only), user or assistant.")
    content: str = Field(description="What is said, word for word.")


@dataclass(frozen=True)
class Rendered:
    """Token ids of a conversation."""

    ids: list[int]
    make_mask: Callable[[], list[bool]] = field(repr=False, compare=False)

    @cached_property
    def mask(self) -> list[bool]:
        """True where the model learns: an answer and the token that ends it. Made when first asked for.

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
            key = ".".join(str(part) for part in ("", *first["loc"]))
            raise RhapsodeError(f"{where}[{index}]{key}: {first['msg']}", _HINT) from None
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
        tools: JSON Schemas of functions, for templates that tell the model of them.

    Raises:
        RhapsodeError: there is no message or no chat template, a role is unknown, or the template refuses or fails.
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
        return _render_chatml(messages, tokenizer=tokenizer, add_generation_prompt=add_generation_prompt)
    conversation = Conversation(messages, tokenizer=tokenizer, tools=tools)
    ids = conversation.ids(conversation.text(add_generation_prompt=add_generation_prompt))
    return Rendered(ids, partial(conversation.mask, add_generation_prompt=add_generation_prompt))


def _is_ours(tokenizer: Tokenizer) -> bool:
    """Whether pieces can be encoded one by one: nothing is put before a text, and turns have tokens of their own."""
    has_tokens = "bos_token" in tokenizer.names and {START_OF_TURN, END_OF_TURN} <= tokenizer.special_names
    return tokenizer.chat_template == CHATML and has_tokens and not tokenizer.lead


def _render_chatml(messages: Sequence[Message], *, tokenizer: Tokenizer, add_generation_prompt: bool) -> Rendered:
    start = tokenizer.special(START_OF_TURN)
    ids, mask = [tokenizer.bos], [False]

    def add(piece: list[int], *, trained: bool = False) -> None:
        ids.extend(piece)
        mask.extend([trained] * len(piece))

    for index, message in enumerate(messages):
        if message.role == "system" and index:
            raise RhapsodeError(
                f"messages[{index}].role: a system message may only be the first",
                "move it to the front or make it user",
            )
        if message.role == "assistant":
            add([start, *tokenizer.encode("assistant\n")])
            add([*tokenizer.encode(message.content), tokenizer.end_of_turn], trained=True)
        else:
            add([start, *tokenizer.encode(f"{message.role}\n{message.content}"), tokenizer.end_of_turn])
        add(tokenizer.encode("\n"))
    if add_generation_prompt:
        add([start, *tokenizer.encode("assistant\n")])
    return Rendered(ids, lambda: mask)


_HINT = "a message is an object with role (system, user or assistant) and content (text)"


def _check(messages: Sequence[Message]) -> None:
    if not messages:
        raise RhapsodeError("there are no messages", "a conversation needs at least one message")
    for index, message in enumerate(messages):
        if message.role not in get_args(Role):
            raise RhapsodeError(f"messages[{index}].role: {message.role!r} is not a role", _HINT)
