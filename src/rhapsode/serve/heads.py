"""Models that do not write, over HTTP: OpenAI's /v1/embeddings for vectors, /classify for labels and rewards.

/classify is vLLM's endpoint: `input` is a text or several, and every answer has the best label and all probabilities. A
model that learned from conversations is asked with `messages` too; a reward model always is.
"""

import asyncio
import base64
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeVar

from fastapi import APIRouter, FastAPI, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse, Response
from torch import Tensor

from rhapsode import __version__
from rhapsode.corpus.examples.heads import answered_ids, prompt_ids, text_ids
from rhapsode.engine.heads import LoadedHead
from rhapsode.serve.body import parse, validated
from rhapsode.serve.config import ServeConfig
from rhapsode.serve.errors import ApiError, handle_errors
from rhapsode.serve.guard import Guard
from rhapsode.serve.messages import ChatMessage
from rhapsode.serve.schemas import Prompt

Asked = TypeVar("Asked", bound="HeadAsked")
Ids = list[list[int]]


class HeadAsked(BaseModel):
    """What both endpoints have in common."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    ignored: ClassVar[frozenset[str]] = frozenset({"user"})

    model: str


class EmbeddingsAsked(HeadAsked):
    """POST /v1/embeddings. Vectors cannot be cut: `dimensions` may only be what the model has."""

    input: Prompt
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None


class ClassifyAsked(HeadAsked):
    """POST /classify: one or several inputs, or one conversation."""

    input: Prompt | None = None
    messages: list[ChatMessage] | None = Field(default=None, min_length=1)


@dataclass
class HeadService:
    """One model that is being served. It reads one request at a time: a forward pass takes all cores."""

    name: str
    loaded: LoadedHead
    config: ServeConfig
    created: int = field(default_factory=lambda: int(time.time()))
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def read(self, request: Request, kind: type[Asked]) -> Asked:
        """The request's body. Raises ApiError: it cannot be served; the field is named."""
        value = parse(await request.body())
        asked = validated(kind, {key: part for key, part in value.items() if key not in kind.ignored})
        if asked.model != self.name:
            raise ApiError(
                404, f"there is no model {asked.model!r}; this is {self.name!r}", param="model", code="model_not_found"
            )
        return asked

    async def ids(self, given: Any) -> Ids:
        """The ids of every input. Raises ApiError: there are too many, or they are no ids of this vocabulary."""
        many = [given] if isinstance(given, str) or (given and isinstance(given[0], int)) else list(given)
        if len(many) > self.config.max_prompts:
            raise ApiError(400, f"input: at most {self.config.max_prompts} inputs", param="input")
        tokenizer, size = self.loaded.tokenizer, self.loaded.engine.model.spec.vocab_size
        if any(not isinstance(one, str) and max(one, default=0) >= size for one in many):
            raise ApiError(400, f"input: token ids are below {size:,}", param="input", code="invalid_value")
        return await asyncio.to_thread(
            lambda: [text_ids(one, tokenizer=tokenizer) if isinstance(one, str) else list(one) for one in many]
        )

    async def compute(self, read: Callable[[Ids], Tensor], ids: Ids) -> Tensor:
        """Raises: ApiError: an input is longer than the model reads. TimeoutError: others were before it too long."""
        for one in ids:
            self.loaded.engine.check(one)
        async with asyncio.timeout(self.config.deadline), self.turn:
            return await asyncio.to_thread(read, ids)


def create_head_app(
    loaded: LoadedHead, *, name: str, config: ServeConfig | None = None, api_key: str | None = None
) -> FastAPI:
    """An application that serves a model with a head as the model `name`."""
    config = config or ServeConfig()
    service = HeadService(name, loaded, config)
    app = FastAPI(
        title="Rhapsode", version=__version__, docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False
    )
    own = _classify(service) if loaded.engine.head.labels else _embeddings(service)
    for router in (_about(service), own, _others(service)):
        app.include_router(router)
    handle_errors(app)
    app.add_middleware(Guard, config=config, api_key=api_key)
    return app


def _about(service: HeadService) -> APIRouter:
    router = APIRouter()
    card = {"id": service.name, "object": "model", "created": service.created, "owned_by": "rhapsode"}

    @router.get("/livez")
    @router.get("/readyz")
    async def ready() -> dict[str, str]:
        return {"status": "ok"}

    @router.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok", "model": service.name}

    @router.get("/v1/models")
    async def models() -> dict[str, object]:
        return {"object": "list", "data": [card]}

    return router


def _others(service: HeadService) -> APIRouter:
    """What models that write are asked."""
    router = APIRouter()

    @router.post("/{_path:path}")
    async def refused(_path: str) -> Response:
        where = "/classify" if service.loaded.engine.head.labels else "/v1/embeddings"
        raise ApiError(404, f"this model does not write: it {service.loaded.engine.head.purpose}; ask {where}")

    return router


def _embeddings(service: HeadService) -> APIRouter:
    router = APIRouter()

    @router.post("/v1/embeddings")
    async def embed(request: Request) -> Response:
        asked = await service.read(request, EmbeddingsAsked)
        width = service.loaded.engine.model.spec.width
        if asked.dimensions not in (None, width):
            raise ApiError(400, f"dimensions: vectors of this model have {width}", param="dimensions")
        ids = await service.ids(asked.input)
        vectors = await service.compute(service.loaded.engine.vectors, ids)
        data = [
            {"object": "embedding", "index": index, "embedding": _spelled(vector, asked.encoding_format)}
            for index, vector in enumerate(vectors)
        ]
        return JSONResponse({"object": "list", "data": data, "model": service.name, "usage": _usage(ids)})

    return router


def _spelled(vector: Tensor, encoding: str) -> list[float] | str:
    """OpenAI's base64 is that of little-endian float32."""
    if encoding == "float":
        numbers: list[float] = vector.tolist()
        return numbers
    return base64.b64encode(vector.numpy().astype("<f4").tobytes()).decode("ascii")


def _classify(service: HeadService) -> APIRouter:
    router = APIRouter()

    @router.post("/classify")
    async def classify(request: Request) -> Response:
        asked = await service.read(request, ClassifyAsked)
        ids = await _inputs(service, asked)
        scores = await service.compute(service.loaded.engine.scores, ids)
        data = [{"index": index, **_judged(row, service.loaded.engine.head.labels)} for index, row in enumerate(scores)]
        head = {"id": f"classify-{uuid.uuid4().hex}", "object": "list", "created": int(time.time())}
        return JSONResponse({**head, "model": service.name, "data": data, "usage": _usage(ids)})

    return router


async def _inputs(service: HeadService, asked: ClassifyAsked) -> Ids:
    if (asked.input is None) == (asked.messages is None):
        raise ApiError(400, "give either input or messages", param="input", code="invalid_value")
    if asked.messages is None:
        return await service.ids(asked.input)
    if len(asked.messages) > service.config.max_messages:
        raise ApiError(400, f"messages: at most {service.config.max_messages}", param="messages")
    messages = tuple(one.message for one in asked.messages)
    is_reward = len(service.loaded.engine.head.labels) == 1
    if is_reward and messages[-1].role != "assistant":
        raise ApiError(400, "messages: the last one is the answer to be rewarded", param="messages")
    ids_of = answered_ids if is_reward else prompt_ids
    return [await asyncio.to_thread(ids_of, messages, (), tokenizer=service.loaded.tokenizer)]


def _judged(scores: Tensor, labels: Sequence[str]) -> dict[str, Any]:
    if len(labels) == 1:
        return {"label": labels[0], "reward": float(scores[0]), "num_classes": 1}
    return {"label": labels[int(scores.argmax())], "probs": scores.softmax(-1).tolist(), "num_classes": len(labels)}


def _usage(ids: Ids) -> dict[str, int]:
    read = sum(map(len, ids))
    return {"prompt_tokens": read, "completion_tokens": 0, "total_tokens": read}
