"""What a model is tuned on: five kinds of example, whatever shape of file they came from.

Each has a canonical JSON value, which is itself one of the shapes that are read: OpenAI's and TRL's own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rhapsode.text.chat import Message

Messages = tuple[Message, ...]
Tools = tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Conversation:
    """Every answer in it is learned. `tools` are JSON Schemas of functions, in OpenAI's shape."""

    messages: Messages
    tools: Tools = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """A beginning, and how it goes on, which alone is learned: both text as it is, or both messages."""

    prompt: str | Messages
    completion: str | Messages
    tools: Tools = ()


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
    """A text, all of which is learned."""

    text: str


Example = Conversation | Completion | Preference | Feedback | Text


def to_value(example: Example) -> dict[str, Any]:
    """The canonical JSON value. What the example has not, the value has not."""
    parts = {name: getattr(example, name) for name in type(example).__slots__}
    return {name: _value(part) for name, part in parts.items() if name != "tools" or part}


def _value(part: object) -> object:
    if isinstance(part, tuple):
        return [item.row() if isinstance(item, Message) else dict(item) for item in part]
    return part
