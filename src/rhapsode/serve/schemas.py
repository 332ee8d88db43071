"""What a client may ask for: OpenAI's fields, strictly typed, and three of our own (top_k, min_p, repetition_penalty).

A field of OpenAI's that cannot change the text is accepted and has no effect; the answer's header `x-rhapsode-ignored`
names it. One that would change the text is refused unless its value asks for nothing. Any other field is refused.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from rhapsode.engine.sampling import BIAS_LIMIT, MAX_BIASES, MAX_LOGPROBS, Sampling
from rhapsode.engine.stops import MAX_STOP_CHARS, MAX_STOPS
from rhapsode.serve.errors import ApiError
from rhapsode.serve.messages import ChatMessage
from rhapsode.serve.tools import MAX_TOOLS, NamedTool, Tool, ToolChoice
from rhapsode.text.tool_calls import opening

_NOTHING: tuple[Any, ...] = (None,)
"""Values that ask for nothing."""

StopString = Annotated[str, Field(min_length=1, max_length=MAX_STOP_CHARS)]


def _kind(value: object) -> str:
    return "(list)" if isinstance(value, list) else "(text)"


Stop = Annotated[
    Annotated[StopString, Tag("(text)")] | Annotated[list[StopString], Field(max_length=MAX_STOPS), Tag("(list)")],
    Discriminator(_kind),
]


class StreamOptions(BaseModel):
    """Obfuscation is padding against eavesdroppers on the length of tokens; there is none to turn off."""

    model_config = ConfigDict(strict=True, extra="forbid")

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class Asked(BaseModel):
    """What completions and chats have in common."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    ignored: ClassVar[frozenset[str]] = frozenset({"user", "metadata", "store", "service_tier", "safety_identifier"})
    refused: ClassVar[Mapping[str, tuple[Any, ...]]] = {}

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = Field(default=None, ge=1)
    stop: Stop | None = None
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**64)
    temperature: float | None = Field(default=None, ge=0, le=100)
    top_p: float | None = Field(default=None, ge=0, le=1)
    top_k: int | None = Field(default=None, ge=0)
    min_p: float | None = Field(default=None, ge=0, le=1)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    repetition_penalty: float | None = Field(default=None, ge=0.01, le=100)
    logit_bias: dict[str, Annotated[float, Field(ge=-BIAS_LIMIT, le=BIAS_LIMIT)]] | None = Field(
        default=None, max_length=MAX_BIASES
    )
    prompt_cache_key: str | None = Field(default=None, max_length=256)

    @model_validator(mode="after")
    def _options_belong_to_a_stream(self) -> "Asked":
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options is only allowed with stream")
        return self

    @property
    def stops(self) -> list[str]:
        return [self.stop] if isinstance(self.stop, str) else self.stop or []

    @property
    def wants_usage(self) -> bool:
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    @property
    def salt(self) -> bytes:
        """Requests with another `prompt_cache_key` share no computed beginnings."""
        return (self.prompt_cache_key or "").encode()

    def sampling(
        self, *, choice: int, max_tokens: int | None, logprobs: int | None, prompt_logprobs: int | None = None
    ) -> Sampling:
        """For answer number `choice`: with one seed, each of n answers has its own and the same every time."""
        return Sampling(
            max_tokens=max_tokens,
            temperature=1.0 if self.temperature is None else self.temperature,
            top_k=self.top_k or 0,
            top_p=1.0 if self.top_p is None else self.top_p,
            min_p=self.min_p or 0.0,
            repetition_penalty=1.0 if self.repetition_penalty is None else self.repetition_penalty,
            frequency_penalty=self.frequency_penalty or 0.0,
            presence_penalty=self.presence_penalty or 0.0,
            logit_bias=_biases(self.logit_bias or {}),
            seed=None if self.seed is None else (self.seed + choice) % 2**64,
            logprobs=logprobs,
            prompt_logprobs=prompt_logprobs,
        )


TokenIds = list[Annotated[int, Field(ge=0)]]


def _prompt_kind(value: object) -> str:
    """Decided by the first element: a union tried branch by branch would report errors for each."""
    if not isinstance(value, list):
        return "(text)"
    first = value[0] if value else ""
    return "(ids)" if isinstance(first, int) else "(many ids)" if isinstance(first, list) else "(texts)"


Prompt = Annotated[
    Annotated[str, Tag("(text)")]
    | Annotated[list[str], Field(min_length=1), Tag("(texts)")]
    | Annotated[TokenIds, Tag("(ids)")]
    | Annotated[list[Annotated[TokenIds, Field(min_length=1)]], Tag("(many ids)")],
    Discriminator(_prompt_kind),
]


class CompletionAsked(Asked):
    """POST /v1/completions."""

    refused: ClassVar[Mapping[str, tuple[Any, ...]]] = {"suffix": (None, ""), "best_of": (None, 1)}

    prompt: Prompt
    max_tokens: int | None = Field(default=16, ge=0)
    echo: bool | None = None
    logprobs: int | None = Field(default=None, ge=0, le=MAX_LOGPROBS)


class ChatAsked(Asked):
    """POST /v1/chat/completions."""

    ignored: ClassVar[frozenset[str]] = Asked.ignored | {
        "parallel_tool_calls",
        "prediction",
        "prompt_cache_retention",
        "reasoning_effort",
        "verbosity",
    }
    refused: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "functions": (None, []),
        "function_call": (None, "none", "auto"),
        "response_format": (None, {"type": "text"}),
        "modalities": (None, ["text"]),
        "audio": _NOTHING,
        "web_search_options": _NOTHING,
    }

    messages: list[ChatMessage] = Field(min_length=1)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=MAX_LOGPROBS)
    tools: list[Tool] | None = Field(default=None, max_length=MAX_TOOLS)
    tool_choice: ToolChoice | None = None

    @property
    def offered(self) -> list[dict[str, Any]]:
        """The tools that the model is told of."""
        return [] if self.tool_choice == "none" else [tool.row for tool in self.tools or ()]

    @property
    def begun(self) -> str | None:
        """How the answer must begin so that it calls what is asked for; None if no tool is offered."""
        if not self.offered:
            return None
        if isinstance(self.tool_choice, NamedTool):
            return opening(self.tool_choice.function.name)
        return opening(None) if self.tool_choice == "required" else ""

    @model_validator(mode="after")
    def _chooses_among_its_tools(self) -> "ChatAsked":
        names = [tool.function.name for tool in self.tools or ()]
        if len(set(names)) < len(names):
            raise ValueError("tools: two have one name")
        if self.tool_choice == "required" and not names:
            raise ValueError("tool_choice: there are no tools")
        if isinstance(self.tool_choice, NamedTool) and self.tool_choice.function.name not in names:
            raise ValueError(f"tool_choice: there is no tool {self.tool_choice.function.name!r}")
        return self

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> "ChatAsked":
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("top_logprobs is only allowed with logprobs")
        if None not in (self.max_tokens, self.max_completion_tokens) and self.max_tokens != self.max_completion_tokens:
            raise ValueError("max_tokens and max_completion_tokens differ")
        return self


def without_ignored(kind: type[Asked], value: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """What is left to validate, and the names of fields that have no effect.

    Raises:
        ApiError: a field asks for something that is not supported.
    """
    left, ignored = dict(value), []
    for name in value:
        if name in kind.refused:
            if left.pop(name) not in kind.refused[name]:
                raise ApiError(400, f"{name} is not supported", param=name, code="unsupported_parameter")
        elif name in kind.ignored:
            ignored.append(name)
            del left[name]
    return left, ignored


def _biases(given: Mapping[str, float]) -> dict[int, float]:
    for token in given:
        if not (token.isascii() and token.isdigit() and len(token) < 10):
            raise ApiError(400, f"logit_bias: {token[:32]!r} is not a token id", param="logit_bias")
    return {int(token): bias for token, bias in given.items()}
