"""Messages of a chat as a client sends them."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator

from rhapsode.serve.tools import Called
from rhapsode.text.chat import Message


class TextPart(BaseModel):
    """The only kind of content that is not plain text: nothing is ever fetched."""

    model_config = ConfigDict(strict=True, extra="forbid")

    type: Literal["text"]
    text: str


def _kind(value: object) -> str:
    return "(list)" if isinstance(value, list) else "(text)"


Content = Annotated[Annotated[str, Tag("(text)")] | Annotated[list[TextPart], Tag("(list)")], Discriminator(_kind)]


class ChatMessage(BaseModel):
    """One message. `developer` is OpenAI's newer name for `system`; beside calls the content may be null."""

    model_config = ConfigDict(strict=True, extra="forbid")

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Content | None = None
    name: str | None = Field(default=None, max_length=64)
    refusal: None = None
    audio: None = None
    tool_calls: list[Called] | None = None
    tool_call_id: str | None = None
    function_call: None = None
    annotations: list[None] | None = None

    @property
    def message(self) -> Message:
        """As it is rendered. Raises: ValidationError: it is none."""
        content = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content or ())
        row: dict[str, Any] = {
            "role": "system" if self.role == "developer" else self.role,
            "content": None if self.content is None else content,
            "tool_calls": [call.model_dump() for call in self.tool_calls or ()],
            "tool_call_id": self.tool_call_id,
        }
        return Message.model_validate(row | ({"name": self.name} if self.role == "tool" else {}))

    @model_validator(mode="after")
    def _is_a_message(self) -> "ChatMessage":
        if self.role == "tool" and self.tool_call_id is None:
            raise ValueError("a tool's result needs tool_call_id, the id of the call that it answers")
        try:
            _ = self.message
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(map(str, first["loc"]))
            raise ValueError(f"{place}: {first['msg'].removeprefix('Value error, ')}") from None
        return self
