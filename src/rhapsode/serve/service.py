"""What every endpoint needs: the worker, the tokenizer, the name and the limits; and how a request is read."""

import asyncio
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from fastapi import Request

from rhapsode.engine.worker import Work, Worker
from rhapsode.serve.body import parse, validated
from rhapsode.serve.config import ServeConfig
from rhapsode.serve.errors import ApiError
from rhapsode.serve.generation import Generation
from rhapsode.serve.schemas import Asked, without_ignored
from rhapsode.text.tokenizer import Tokenizer

A = TypeVar("A", bound=Asked)


class Read(NamedTuple, Generic[A]):
    """A valid request and the answer's extra headers."""

    asked: A
    headers: dict[str, str]


@dataclass(frozen=True)
class Service:
    """One model that is being served."""

    name: str
    worker: Worker
    tokenizer: Tokenizer
    config: ServeConfig
    created: int

    async def read(self, request: Request, kind: type[A]) -> Read[A]:
        """The request's body, checked against everything that does not need the model.

        Raises:
            ApiError: it cannot be served; the field is named.
        """
        value, ignored = without_ignored(kind, parse(await request.body()))
        asked = validated(kind, value)
        if asked.model != self.name:
            raise ApiError(
                404, f"there is no model {asked.model!r}; this is {self.name!r}", param="model", code="model_not_found"
            )
        if (asked.n or 1) > self.config.max_choices:
            raise ApiError(400, f"n: at most {self.config.max_choices} answers", param="n", code="invalid_value")
        return Read(asked, {"x-rhapsode-ignored": ", ".join(ignored)} if ignored else {})

    async def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """In a thread: a megabyte of text takes long enough to be felt by everyone else's stream."""
        return await asyncio.to_thread(lambda: [self.tokenizer.ids(text) for text in texts])

    def generate(self, asked: Asked, works: Sequence[Work]) -> Generation:
        """Queue `works`, n for each prompt. Raises what the worker raises, before anything is answered."""
        return Generation(
            self.worker,
            self.tokenizer,
            works,
            per_prompt=asked.n or 1,
            stop=asked.stops,
            timeout=self.config.deadline,
        )

    def head(self, kind: str, *, prefix: str) -> dict[str, Any]:
        """The fields that every answer and every event of a stream begins with."""
        return {"id": f"{prefix}-{uuid.uuid4().hex}", "object": kind, "created": int(time.time()), "model": self.name}
