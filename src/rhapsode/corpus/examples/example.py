"""What a model is tuned on: five kinds of example, whatever shape of file they came from.

Each has a canonical JSON value, which is itself one of the shapes that are read: OpenAI's and TRL's own.
"""

import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rhapsode.corpus.documents import Document
from rhapsode.text.chat import Message

Messages = tuple[Message, ...]
Tools = tuple[Mapping[str, Any], ...]
_NOT_A_WORD = re.compile(r"[\W_]+")
_SIGN = re.compile(r"(?<=\d)\s*([-+*/^%<>=])\s*(?=[-+]?\d)|(?<!\w)(-)(?=\d)")
"""Between numbers, or before one: 3 + 4 asks for something else than 3 - 4."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """Every answer in it is learned. `tools` are JSON Schemas of functions, in OpenAI's shape.

    `check` is what the last answer must pass (`check.py`); nobody learns it.
    """

    messages: Messages
    tools: Tools = ()
    check: str = ""


@dataclass(frozen=True, slots=True)
class Completion:
    """A beginning, and how it goes on, which alone is learned: both text as it is, or both messages."""

    prompt: str | Messages
    completion: str | Messages
    tools: Tools = ()
    check: str = ""


@dataclass(frozen=True, slots=True)
class Preference:
    """Two answers to one prompt, of which people prefer the first."""

    prompt: Messages
    chosen: Messages
    rejected: Messages
    tools: Tools = ()


@dataclass(frozen=True, slots=True)
class Feedback:
    """An answer, and whether people want such."""

    prompt: Messages
    completion: Messages
    label: bool
    tools: Tools = ()


@dataclass(frozen=True, slots=True)
class Text:
    """A text, all of which is learned; where it is cut it went on, and no end of it is learned."""

    text: str
    is_cut: bool = False


Example = Conversation | Completion | Preference | Feedback | Text
_MAY_BE_ABSENT = frozenset({"tools", "check", "is_cut"})
_NOT_SAID = _MAY_BE_ABSENT | {"label"}


def to_value(example: Example) -> dict[str, Any]:
    """The canonical JSON value. What the example has not, the value has not."""
    parts = {name: getattr(example, name) for name in type(example).__slots__}
    return {name: _value(part) for name, part in parts.items() if name not in _MAY_BE_ABSENT or part}


def _value(part: object) -> object:
    if isinstance(part, tuple):
        return [item.row() if isinstance(item, Message) else dict(item) for item in part]
    return part


def from_value(value: Mapping[str, Any], *, kind: str) -> Example:
    """What `to_value` gave of an example of this kind (the name of its class, in small letters)."""
    kinds: tuple[type[Any], ...] = (Conversation, Completion, Preference, Feedback, Text)
    made = {_named(one): one for one in kinds}[kind]
    example: Example = made(**{name: _part(part) if name != "tools" else tuple(part) for name, part in value.items()})
    return example


def example_of(document: Document) -> Example:
    """The example that a document of a corpus of examples holds."""
    return from_value(json.loads(document.text), kind=document.meta["kind"])


def said(example: Example) -> list[str]:
    """Everything that somebody says in it."""
    parts = [getattr(example, name) for name in type(example).__slots__ if name not in _NOT_SAID]
    return [text for part in parts for text in ([part] if isinstance(part, str) else [m.content for m in part])]


def is_said(example: Example) -> bool:
    """Whether it is a conversation, which a chat template writes; else it is text."""
    return not isinstance(example, Text) and not (isinstance(example, Completion) and isinstance(example.prompt, str))


def family_of(example: Example) -> str:
    """What it can teach: an answer that is right, one of two that is better, or whether an answer is wanted."""
    match example:
        case Preference():
            return "preferences"
        case Feedback():
            return "feedback"
        case _:
            return "answers"


def opening(example: Example) -> str:
    """All that is said before the first answer; of a text, all of it. Examples that open alike belong together."""
    return _before(example, is_last=False)


def question(example: Example) -> str:
    """All that is said before the last answer; of a text, all of it."""
    return _before(example, is_last=True)


def same_prompt(text: str) -> bytes:
    """What two prompts have in common that differ in case, spaces or punctuation alone; signs of sums are none."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    folded = _SIGN.sub(lambda found: f" {unicodedata.name(found[1] or found[2])} ", folded)
    return (_NOT_A_WORD.sub(" ", folded).strip() or text).encode("utf-8", "surrogatepass")


def _before(example: Example, *, is_last: bool) -> str:
    match example:
        case Text():
            return example.text
        case Conversation():
            messages = example.messages
        case _:
            if isinstance(example.prompt, str):
                return example.prompt
            messages = (*example.prompt, _ANSWER)
    answers = [i for i, message in enumerate(messages) if message.role == "assistant"] or [len(messages)]
    stop = answers[-1 if is_last else 0]
    return "\n".join(message.content for message in messages[: stop or 1])


_ANSWER = Message(role="assistant", content="")


def _named(kind: type) -> str:
    return kind.__name__.lower()


def _part(part: object) -> object:
    return tuple(Message.model_validate(item) for item in part) if isinstance(part, list) else part
