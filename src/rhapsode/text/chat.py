"""Conversations as token ids: one function for training, evaluation, serving and export.

A conversation is ChatML. Ids are made piece by piece, never by reading a rendered string, so the boundaries of turns
are known, not searched for: content cannot forge them, and the loss mask is exact. Rendering a conversation's beginning
gives a prefix of rendering the whole, and a generation prompt is a prefix of every answer to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from pydantic import Field, ValidationError

from rhapsode.core.config import Config
from rhapsode.core.errors import RhapsodeError

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


class Rendered(NamedTuple):
    """Token ids of a conversation; `mask` is True where the model learns: an answer and the token that ends it."""

    ids: list[int]
    mask: list[bool]


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


def render(messages: Sequence[Message], *, tokenizer: Tokenizer, add_generation_prompt: bool = False) -> Rendered:
    """The conversation's ids and loss mask; with `add_generation_prompt`, up to where the assistant begins to speak.

    The ids are those of transformers' `apply_chat_template` with two intended differences: special tokens spelled in
    content stay text, and an answer that begins with an empty line is not joined with the line end before it, because
    a model that is generating could not have joined them.

    Raises:
        RhapsodeError: there is no message, a role is unknown, a system message is not the first, or the tokenizer
            belongs to a model with another chat template.
    """
    _check(messages, tokenizer)
    start = tokenizer.special(START_OF_TURN)
    ids, mask = [tokenizer.bos], [False]

    def add(piece: list[int], *, trained: bool = False) -> None:
        ids.extend(piece)
        mask.extend([trained] * len(piece))

    for message in messages:
        if message.role == "assistant":
            add([start, *tokenizer.encode("assistant\n")])
            add([*tokenizer.encode(message.content), tokenizer.end_of_turn], trained=True)
        else:
            add([start, *tokenizer.encode(f"{message.role}\n{message.content}"), tokenizer.end_of_turn])
        add(tokenizer.encode("\n"))
    if add_generation_prompt:
        add([start, *tokenizer.encode("assistant\n")])
    return Rendered(ids, mask)


_HINT = "a message is an object with role (system, user or assistant) and content (text)"


def _check(messages: Sequence[Message], tokenizer: Tokenizer) -> None:
    if tokenizer.chat_template != CHATML:
        raise RhapsodeError(
            "this tokenizer has a chat template of its own, and conversations are rendered as ChatML only",
            "use a base model, or one whose chat_template.jinja is the ChatML that Rhapsode writes",
        )
    if not messages:
        raise RhapsodeError("there are no messages", "a conversation needs at least one message")
    for index, message in enumerate(messages):
        if message.role not in get_args(Role):
            raise RhapsodeError(f"messages[{index}].role: {message.role!r} is not a role", _HINT)
        if message.role == "system" and index:
            raise RhapsodeError(
                f"messages[{index}].role: a system message may only be the first",
                "move it to the front or make it user",
            )
