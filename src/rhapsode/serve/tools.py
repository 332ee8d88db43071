"""Tools in a chat: what a client may offer, and an answer's text as the words and calls in it.

A call that is asked for by name, or at all, is enforced by the answer's beginning, which the model then goes on from.
What it goes on with is its own: arguments that are no JSON object stay text.
"""

import uuid
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    Tag,
    model_validator,
)

from rhapsode.engine.completion import Piece
from rhapsode.text.chat import Function
from rhapsode.text.tool_calls import CallStream

MAX_TOOLS = 128
Name = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")]


class ToolFunction(BaseModel):
    """`strict` would promise arguments that fit the schema, which nothing here enforces."""

    model_config = ConfigDict(strict=True, extra="forbid")

    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: Literal[False] | None = None


class Tool(BaseModel):
    """A function that the model may call."""

    model_config = ConfigDict(strict=True, extra="forbid")

    type: Literal["function"]
    function: ToolFunction
    _given: Mapping[str, Any] = PrivateAttr(default={})

    @model_validator(mode="wrap")
    @classmethod
    def _keep(cls, value: Any, handler: ModelWrapValidatorHandler["Tool"]) -> "Tool":
        made = handler(value)
        made._given = value["function"]  # noqa: SLF001 - its own
        return made

    @property
    def row(self) -> dict[str, Any]:
        """As templates read it; keys in the client's order, which training kept too."""
        function = {key: value for key, value in self._given.items() if key != "strict" and value is not None}
        return {"type": "function", "function": function}


class Named(BaseModel):
    """A name alone."""

    model_config = ConfigDict(strict=True, extra="forbid")

    name: Name


class NamedTool(BaseModel):
    """The one tool that must be called."""

    model_config = ConfigDict(strict=True, extra="forbid")

    type: Literal["function"]
    function: Named


def _kind(value: object) -> str:
    return "(text)" if isinstance(value, str) else "(object)"


ToolChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("(text)")] | Annotated[NamedTool, Tag("(object)")],
    Discriminator(_kind),
]


class CalledFunction(BaseModel):
    """As an answer had it."""

    model_config = ConfigDict(strict=True, extra="forbid")

    name: str
    arguments: str


class Called(BaseModel):
    """A call of an earlier answer, which its result names."""

    model_config = ConfigDict(strict=True, extra="forbid")

    id: str = Field(min_length=1, max_length=256)
    type: Literal["function"]
    function: CalledFunction


class Reader:
    """One answer as it grows. Without tools all of it is words.

    Args:
        begun: how the answer was made to begin, which the model did not write itself; None if no tool is offered.
    """

    def __init__(self, begun: str | None) -> None:
        self.num_calls = 0
        self._stream = None if begun is None else CallStream()
        if self._stream is not None and begun:
            self._stream.push(begun)

    def push(self, piece: Piece) -> list[str | Function]:
        """Words and calls that are now certain, in their order."""
        if self._stream is None:
            return [piece.text] if piece.text else []
        found = self._stream.push(piece.text)
        if piece.finish_reason is not None:
            found += self._stream.finish()
        self.num_calls += sum(isinstance(part, Function) for part in found)
        return found

    def reason(self, reason: str | None) -> str | None:
        """Why the answer ended: because it calls tools, if it does."""
        return "tool_calls" if reason == "stop" and self.num_calls else reason


def message_of(parts: Sequence[str | Function]) -> dict[str, Any]:
    """A whole answer as a message."""
    words = "".join(part for part in parts if isinstance(part, str))
    calls = [call_of(part) for part in parts if isinstance(part, Function)]
    message: dict[str, Any] = {"role": "assistant", "content": words or None if calls else words, "refusal": None}
    return message | ({"tool_calls": calls} if calls else {})


def call_of(function: Function) -> dict[str, Any]:
    """A call under a name of its own."""
    return {"id": f"call_{uuid.uuid4().hex}", "type": "function", "function": function.model_dump()}
