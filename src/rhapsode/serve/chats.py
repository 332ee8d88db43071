"""POST /v1/chat/completions: the assistant's next message. A model that never saw a chat gets the same ChatML."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from rhapsode.core.errors import RhapsodeError
from rhapsode.engine.completion import Spoken
from rhapsode.engine.output import FinishReason
from rhapsode.engine.worker import Work
from rhapsode.serve.errors import ApiError
from rhapsode.serve.generation import Generation
from rhapsode.serve.schemas import ChatAsked
from rhapsode.serve.service import Service
from rhapsode.serve.spelling import chat_logprobs
from rhapsode.serve.stream import EventStream, while_connected
from rhapsode.serve.tools import Reader, call_of, message_of
from rhapsode.text.chat import Function, render
from rhapsode.text.tool_calls import require_calls


def chats(service: Service) -> APIRouter:
    """The endpoint for one model."""
    router = APIRouter()

    @router.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        asked, headers = await service.read(request, ChatAsked)
        if any(message.name is not None and message.role != "tool" for message in asked.messages):
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
    if asked.offered:
        await asyncio.to_thread(_require_calls, service)
    rendered = await asyncio.to_thread(
        render, messages, tokenizer=service.tokenizer, add_generation_prompt=True, tools=asked.offered
    )
    return rendered.ids + (service.tokenizer.encode(asked.begun) if asked.begun else [])


def _require_calls(service: Service) -> None:
    try:
        require_calls(service.tokenizer)
    except RhapsodeError as error:
        raise ApiError(400, error.message, param="tools", code="unsupported_parameter") from None


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
        self._readers = [Reader(asked.begun) for _ in range(asked.n or 1)]

    async def whole(self) -> dict[str, Any]:
        parts: list[list[str | Function]] = [[] for _ in self._readers]
        tokens: list[list[Spoken]] = [[] for _ in self._readers]
        reasons: list[FinishReason | None] = [None] * len(self._readers)
        async for growth in self._generation.growth():
            parts[growth.choice] += self._readers[growth.choice].push(growth.piece)
            tokens[growth.choice] += growth.piece.tokens
            reasons[growth.choice] = growth.piece.finish_reason
        choices = [
            {
                "index": index,
                "message": message_of(parts[index]),
                "logprobs": self._logprobs(tokens[index]),
                "finish_reason": reader.reason(reasons[index]),
            }
            for index, reader in enumerate(self._readers)
        ]
        head = self._service.head("chat.completion", prefix="chatcmpl")
        return {**head, "choices": choices, "usage": self._generation.usage.as_json()}

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        """For each choice its role, its text in pieces, its calls, and why it ended; then the usage, if asked for."""
        head = self._service.head("chat.completion.chunk", prefix="chatcmpl")
        extra = {"usage": None} if self._asked.wants_usage else {}

        def chunk(
            index: int, delta: dict[str, Any], tokens: Sequence[Spoken] = (), reason: str | None = None
        ) -> dict[str, Any]:
            scored = self._logprobs(tokens) if tokens else None
            choice = {"index": index, "delta": delta, "logprobs": scored, "finish_reason": reason}
            return {**head, "choices": [choice], **extra}

        for index in range(len(self._readers)):
            yield chunk(index, {"role": "assistant", "content": ""})
        async for index, piece, _ in self._generation.growth():
            reader = self._readers[index]
            tokens, num_calls = piece.tokens, reader.num_calls
            for part in reader.push(piece):
                if isinstance(part, str):
                    yield chunk(index, {"content": part}, tokens)
                    tokens = ()
                else:
                    yield chunk(index, {"tool_calls": [{"index": num_calls, **call_of(part)}]})
                    num_calls += 1
            if tokens and self._asked.logprobs:
                yield chunk(index, {"content": ""}, tokens)
            if piece.finish_reason is not None:
                yield chunk(index, {}, reason=reader.reason(piece.finish_reason))
        if self._asked.wants_usage:
            yield {**head, "choices": [], "usage": self._generation.usage.as_json()}

    def _logprobs(self, tokens: Sequence[Spoken]) -> dict[str, Any] | None:
        return chat_logprobs(self._service.tokenizer, tokens) if self._asked.logprobs else None
