"""What OpenAI's API answers, as far as a replay reads it. llama.cpp scores completions in the shape of chats."""

from pydantic import BaseModel, Field


class Model(BaseModel):
    """One model that is offered."""

    id: str


class Models(BaseModel):
    """GET /v1/models."""

    data: list[Model]


class Usage(BaseModel):
    """How much was read."""

    prompt_tokens: int


class Token(BaseModel):
    """A token that was written."""

    logprob: float


class Scores(BaseModel):
    """How likely the tokens were, in the old shape or in the new."""

    token_logprobs: list[float | None] | None = None
    content: list[Token] | None = None

    @property
    def numbers(self) -> tuple[float, ...] | None:
        """None where even one is missing: it would not be known which."""
        if self.content is not None:
            return tuple(token.logprob for token in self.content)
        found = self.token_logprobs or [None]
        told = tuple(number for number in found if number is not None)
        return told if len(told) == len(found) else None


class Message(BaseModel):
    """What the assistant said."""

    content: str | None = None


class Choice(BaseModel):
    """One answer: `text` of a completion, `message` of a chat."""

    text: str = ""
    message: Message = Message()
    finish_reason: str | None = None
    logprobs: Scores | None = None


class Answer(BaseModel):
    """POST /v1/completions and /v1/chat/completions."""

    choices: list[Choice] = Field(min_length=1)
    usage: Usage | None = None


def error_words(value: object) -> str:
    """What a server says about an error, in OpenAI's shape or not."""
    error = value.get("error", value) if isinstance(value, dict) else value
    words = error.get("message", error) if isinstance(error, dict) else error
    return " ".join(str(words).split())
