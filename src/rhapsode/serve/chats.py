"""POST /v1/chat/completions: the assistant's next message. A model that never saw a chat gets the same ChatML."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from rhapsode.engine.completion import Spoken
from rhapsode.engine.output import FinishReason
from rhapsode.engine.worker import Work
from rhapsode.serve.errors import ApiError
from rhapsode.serve.generation import Generation
from rhapsode.serve.schemas import ChatAsked
from rhapsode.serve.service import Service
from rhapsode.serve.spelling import chat_logprobs
from rhapsode.serve.stream import EventStream, while_connected
from rhapsode.text.chat import render


def chats(service: Service) -> APIRouter:
    """The endpoint for one model."""
    router = APIRouter()

    @router.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        asked, headers = await service.read(request, ChatAsked)
        if any(message.name is not None for message in asked.messages):
            headers["x-rhapsode-ignored"] = ", ".join(
                filter(None, (headers.get("x-rhapsode-ignored"), "messages.name"))
            )
        prompt = await _prompt(service, asked)
        generation = service.generate(asked, _works(asked, prompt))
        answer = _Answer(service, asked, generation)
        if asked.stream:
            return EventStream(
                answer.events(),
                close=generation.close,
                write_timeout=service.config.write_timeout,
                headers=headers,
            )
        try:
            return JSONResponse(await while_connected(request.receive, answer.whole()), headers=headers)
        finally:
            generation.close()

    return router


async def _prompt(service: Service, asked: ChatAsked) -> list[int]:
    if len(asked.messages) > service.config.max_messages:
        raise ApiError(400, f"messages: at most {service.config.max_messages}", param="messages")
    messages = [message.message for message in asked.messages]
    rendered = await asyncio.to_thread(render, messages, tokenizer=service.tokenizer, add_generation_prompt=True)
    return rendered.ids


def _works(asked: ChatAsked, prompt: Sequence[int]) -> list[Work]:
    max_tokens = asked.max_tokens if asked.max_completion_tokens is None else asked.max_completion_tokens
    logprobs = (asked.top_logprobs or 0) if asked.logprobs else None
    return [
        Work(prompt, asked.sampling(choice=choice, max_tokens=max_tokens, logprobs=logprobs), asked.salt)
        for choice in range(asked.n or 1)
    ]


class _Answer:
    """One request's answer, whole or in events."""

    def __init__(self, service: Service, asked: ChatAsked, generation: Generation) -> None:
        self._service = service
        self._asked = asked
        self._generation = generation
        self._num_choices = asked.n or 1

    async def whole(self) -> dict[str, Any]:
        texts = [""] * self._num_choices
        tokens: list[list[Spoken]] = [[] for _ in texts]
        reasons: list[FinishReason | None] = [None] * self._num_choices
        async for growth in self._generation.growth():
            texts[growth.choice] += growth.piece.text
            tokens[growth.choice] += growth.piece.tokens
            reasons[growth.choice] = growth.piece.finish_reason
        choices = [
            {
                "index": index,
                "message": {"role": "assistant", "content": text, "refusal": None},
                "logprobs": self._logprobs(spoken),
                "finish_reason": reason,
            }
            for index, (text, spoken, reason) in enumerate(zip(texts, tokens, reasons, strict=True))
        ]
        head = self._service.head("chat.completion", prefix="chatcmpl")
        return {**head, "choices": choices, "usage": self._generation.usage.as_json()}

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        """For each choice its role, its text in pieces, and why it ended; then the usage, if asked for."""
        head = self._service.head("chat.completion.chunk", prefix="chatcmpl")
        extra = {"usage": None} if self._asked.wants_usage else {}

        def chunk(
            index: int, delta: dict[str, str], tokens: Sequence[Spoken] = (), reason: FinishReason | None = None
        ) -> dict[str, Any]:
            scored = self._logprobs(tokens) if tokens else None
            choice = {"index": index, "delta": delta, "logprobs": scored, "finish_reason": reason}
            return {**head, "choices": [choice], **extra}

        for index in range(self._num_choices):
            yield chunk(index, {"role": "assistant", "content": ""})
        async for index, piece, _ in self._generation.growth():
            if piece.text or (piece.tokens and self._asked.logprobs):
                yield chunk(index, {"content": piece.text}, piece.tokens)
            if piece.finish_reason is not None:
                yield chunk(index, {}, reason=piece.finish_reason)
        if self._asked.wants_usage:
            yield {**head, "choices": [], "usage": self._generation.usage.as_json()}

    def _logprobs(self, tokens: Sequence[Spoken]) -> dict[str, Any] | None:
        return chat_logprobs(self._service.tokenizer, tokens) if self._asked.logprobs else None
