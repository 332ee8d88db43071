"""POST /v1/completions: text goes on where the prompt ends. lm-eval measures through it with `echo` and `logprobs`."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from rhapsode.engine.completion import Spoken
from rhapsode.engine.output import FinishReason
from rhapsode.engine.worker import Work
from rhapsode.serve.errors import ApiError
from rhapsode.serve.generation import Generation, Growth
from rhapsode.serve.schemas import CompletionAsked
from rhapsode.serve.service import Service
from rhapsode.serve.spelling import completion_logprobs, prompt_tokens
from rhapsode.serve.stream import EventStream, while_connected


def completions(service: Service) -> APIRouter:
    """The endpoint for one model."""
    router = APIRouter()

    @router.post("/v1/completions")
    async def complete(request: Request) -> Response:
        asked, headers = await service.read(request, CompletionAsked)
        prompts = await _prompts(service, asked)
        generation = service.generate(asked, _works(asked, prompts))
        answer = _Answer(service, asked, prompts, generation)
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


async def _prompts(service: Service, asked: CompletionAsked) -> list[list[int]]:
    given = asked.prompt
    if isinstance(given, str):
        return await service.encode([given])
    texts = [one for one in given if isinstance(one, str)]
    many_ids = [one for one in given if isinstance(one, list)]
    if len(texts) + len(many_ids) > service.config.max_prompts:
        raise ApiError(400, f"prompt: at most {service.config.max_prompts} prompts", param="prompt")
    ids = [one for one in given if isinstance(one, int)]
    return await service.encode(texts) if texts else many_ids or [ids]


def _works(asked: CompletionAsked, prompts: Sequence[Sequence[int]]) -> list[Work]:
    samplings = [
        asked.sampling(
            choice=choice,
            max_tokens=16 if asked.max_tokens is None else asked.max_tokens,
            logprobs=asked.logprobs,
            prompt_logprobs=asked.logprobs if asked.echo and choice == 0 else None,
        )
        for choice in range(asked.n or 1)
    ]
    return [Work(prompt, sampling, asked.salt) for prompt in prompts for sampling in samplings]


@dataclass
class _Choice:
    """What a choice has so far."""

    text: str = ""
    tokens: list[Spoken] = field(default_factory=list)
    finish_reason: FinishReason | None = None


class _Answer:
    """One request's answer, whole or in events."""

    def __init__(
        self, service: Service, asked: CompletionAsked, prompts: Sequence[Sequence[int]], generation: Generation
    ) -> None:
        self._tokenizer = service.tokenizer
        self._asked = asked
        self._generation = generation
        self._head = service.head("text_completion", prefix="cmpl")
        self._echoes = [service.tokenizer.decode(prompt) for prompt in prompts] if asked.echo else [""] * len(prompts)
        self._prompt_tokens: dict[int, list[Spoken]] = {}

    async def whole(self) -> dict[str, Any]:
        per_prompt = self._asked.n or 1
        choices = [_Choice() for _ in range(len(self._echoes) * per_prompt)]
        async for growth in self._generation.growth():
            choice = choices[growth.choice]
            self._note_prompt(growth)
            choice.text += growth.piece.text
            choice.tokens += growth.piece.tokens
            choice.finish_reason = growth.piece.finish_reason
        done = [
            self._choice(
                index,
                self._echo(index) + choice.text,
                self._first(index) + self._moved(index, choice.tokens),
                choice.finish_reason,
            )
            for index, choice in enumerate(choices)
        ]
        return {**self._head, "choices": done, "usage": self._generation.usage.as_json()}

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        """The first event of a choice carries the prompt, if it is to be echoed."""
        extra = {"usage": None} if self._asked.wants_usage else {}
        begun: set[int] = set()
        async for growth in self._generation.growth():
            self._note_prompt(growth)
            index, piece = growth.choice, growth.piece
            text, tokens = piece.text, self._moved(index, piece.tokens)
            if index not in begun:
                text, tokens = self._echo(index) + text, self._first(index) + tokens
                begun.add(index)
            if text or piece.finish_reason or (tokens and self._asked.logprobs is not None):
                yield {**self._head, "choices": [self._choice(index, text, tokens, piece.finish_reason)], **extra}
        if self._asked.wants_usage:
            yield {**self._head, "choices": [], "usage": self._generation.usage.as_json()}

    def _choice(
        self, index: int, text: str, tokens: Sequence[Spoken], finish_reason: FinishReason | None
    ) -> dict[str, Any]:
        scored = None if self._asked.logprobs is None else completion_logprobs(self._tokenizer, tokens)
        return {"index": index, "text": text, "logprobs": scored, "finish_reason": finish_reason}

    def _echo(self, index: int) -> str:
        return self._echoes[index // (self._asked.n or 1)]

    def _moved(self, index: int, tokens: Sequence[Spoken]) -> list[Spoken]:
        """Offsets count from the start of the echoed prompt."""
        start = len(self._echo(index))
        return [Spoken(scored, start + offset) for scored, offset in tokens]

    def _first(self, index: int) -> list[Spoken]:
        """The prompt's own tokens, which the first answer to it has scored."""
        return self._prompt_tokens.get(index // (self._asked.n or 1), [])

    def _note_prompt(self, growth: Growth) -> None:
        if growth.prompt is not None:
            self._prompt_tokens[growth.choice // (self._asked.n or 1)] = prompt_tokens(self._tokenizer, growth.prompt)
