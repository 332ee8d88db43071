"""The engine: token ids in, token ids out, many requests at a time. It knows nothing about text.

Life of a request: `add` -> waits -> is given tokens under the step's budget, its beginning taken from pages that
already hold it -> when all its tokens are computed, the last hidden state gives scores, its sampler a token -> until
a stop token, its length or `cancel`. A failure in one request ends that request and no other.

Shapes: N tokens of a step, D width, R requests that get a token, V vocabulary.
"""

import itertools
import os
from collections.abc import Generator, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rhapsode.core.errors import RhapsodeError
from rhapsode.engine.cache import Cache, PagedAttend, Span
from rhapsode.engine.config import EngineConfig
from rhapsode.engine.output import FinishReason, Output, Scored
from rhapsode.engine.pages import Pages, chain
from rhapsode.engine.samplers import Sampler, compose, is_plain_greedy
from rhapsode.engine.sampling import Sampling
from rhapsode.engine.scheduler import Request, RequestId, Scheduler, Turn
from rhapsode.engine.scores import PromptScores, score
from rhapsode.model.decoder import Decoder


class ContextError(RhapsodeError):
    """The prompt leaves no room in the context."""


class _Work(NamedTuple):
    """What the engine knows of a request besides what the scheduler knows."""

    request: Request
    num_prompt: int
    max_length: int
    stop_ids: frozenset[int]
    sampling: Sampling
    sampler: Sampler
    prompt_scores: PromptScores | None


class _Computed(NamedTuple):
    """A turn and its hidden states, [n,D]."""

    turn: Turn
    hidden: Tensor


class Engine:
    """Owns the model's memory of all requests. One thread at a time.

    Args:
        model: any decoder; its device and dtype are the engine's.
        config: how much room there is.
        stop_ids: tokens that end every answer; the model's own `eos` if not given.
        num_ids: how many ids the tokenizer knows; rows of the vocabulary beyond them are padding, and never said.
    """

    def __init__(
        self,
        model: Decoder,
        *,
        config: EngineConfig | None = None,
        stop_ids: frozenset[int] | None = None,
        num_ids: int | None = None,
    ) -> None:
        config = config or EngineConfig()
        self.model = model.eval()
        weight = model.embedding.weight
        context = min(config.context or model.spec.context, model.spec.context)
        num_pages = _num_pages(model, config=config, context=context, dtype=weight.dtype)
        self.context = min(context, num_pages * config.page_size)
        self.pages = Pages(num_pages, page_size=config.page_size)
        self._device = weight.device
        self._num_ids = min(num_ids or model.spec.vocab_size, model.spec.vocab_size)
        self._stop_ids = frozenset(model.spec.eos) if stop_ids is None else stop_ids
        self._cache = Cache(
            model.spec, num_pages=num_pages, page_size=config.page_size, dtype=weight.dtype, device=self._device
        )
        self._scheduler = Scheduler(
            self.pages, tokens_per_step=config.tokens_per_step, max_requests=config.max_requests
        )
        self._works: dict[RequestId, _Work] = {}
        self._numbers = itertools.count()
        self._secret = os.urandom(32)

    @property
    def num_open(self) -> int:
        """Requests that wait or run."""
        return len(self._works)

    @property
    def num_running(self) -> int:
        return len(self._scheduler.running)

    def check(self, prompt: Sequence[int], sampling: Sampling) -> None:
        """Refuse what cannot be served, without a trace.

        Raises:
            RhapsodeError: empty, too long (with the counts), or token ids that the model does not have.
        """
        vocab_size = self._num_ids
        if not prompt:
            raise RhapsodeError("the prompt has no tokens", "give at least one token")
        for token in prompt:
            if not 0 <= token < vocab_size:
                raise RhapsodeError(
                    f"the prompt holds token {token}; the model has tokens 0 to {vocab_size - 1}", "use the model's ids"
                )
        room = self.context if sampling.max_tokens == 0 else self.context - 1
        if len(prompt) > room:
            raise ContextError(
                f"the prompt has {len(prompt)} tokens; the context of {self.context} tokens has room for {room}"
                + (" and an answer" if room < self.context else ""),
                "shorten the prompt",
            )
        sampling.check_ids(vocab_size)

    def add(self, prompt: Sequence[int], sampling: Sampling | None = None, *, salt: bytes = b"") -> RequestId:
        """Queue a request. Only requests of the same `salt` share what was computed. Raises as `check`."""
        sampling = sampling or Sampling()
        self.check(prompt, sampling)
        number = RequestId(next(self._numbers))
        scores = None
        if sampling.prompt_logprobs is not None:
            scores = PromptScores(prompt, top=sampling.prompt_logprobs, num_ids=self._num_ids)
        root = chain(self._secret, list(salt))
        request = Request(number, list(prompt), root, use_cache=scores is None)
        room = self.context if sampling.max_tokens is None else len(prompt) + sampling.max_tokens
        stop_ids = self._stop_ids | sampling.stop_ids
        max_length = min(room, self.context)
        self._works[number] = _Work(request, len(prompt), max_length, stop_ids, sampling, compose(sampling), scores)
        self._scheduler.add(request)
        return number

    def cancel(self, request: RequestId) -> None:
        """Forget a request and free its pages. One that is unknown or finished is no error."""
        work = self._works.pop(request, None)
        if work is not None:
            self._scheduler.remove(work.request)

    def step(self) -> list[Output]:
        """Compute one batch; what became of the requests in it. A request may need several steps for one output."""
        outputs: list[Output] = []
        with torch.inference_mode():
            ready: list[_Computed] = []
            for computed in self._compute(self._scheduler.next(), outputs):
                self._scheduler.done(computed.turn)
                self._read_prompt(computed)
                if computed.turn.stop == len(computed.turn.request.ids):
                    ready.append(computed)
            outputs += self._advance(ready)
        return outputs

    def generate(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling | Sequence[Sampling] | None = None
    ) -> Generator[tuple[int, Output]]:
        """(index of the prompt, output) as they come, until all are finished. Leaving early cancels the rest.

        Args:
            sampling: of all prompts, or one for each.
        """
        each = sampling if isinstance(sampling, Sequence) else [sampling] * len(prompts)
        numbers = {self.add(*one): index for index, one in enumerate(zip(prompts, each, strict=True))}
        try:
            while numbers:
                for output in self.step():
                    if output.request not in numbers:
                        continue
                    yield numbers[output.request], output
                    if output.finish_reason is not None:
                        del numbers[output.request]
        finally:
            for number in numbers:
                self.cancel(number)

    def score(self, prompt: Sequence[int], *, top: int = 0) -> list[Scored]:
        """Every token of `prompt` with its log-probability given those before it; the first has none."""
        for _, output in self.generate([prompt], Sampling(max_tokens=0, prompt_logprobs=top)):
            if output.error is not None:
                raise output.error
            if output.prompt is not None:
                return list(output.prompt)
        raise AssertionError("a request ended without an output")

    def _compute(self, turns: Sequence[Turn], outputs: list[Output]) -> Iterator[_Computed]:
        """Hidden states of every turn that succeeded; failures are added to `outputs`.

        An exception cannot be laid at one request's door while others are in the batch, so the turns are then run
        one by one. Writing keys and values twice does no harm.
        """
        try:
            hidden_ND = self._forward(turns) if turns else None
        except Exception as error:  # noqa: BLE001 - whatever a forward pass raises ends one request, not the engine
            if len(turns) == 1:
                outputs.append(self._fail(turns[0], f"the model failed on this request: {error}"))
            else:
                for turn in turns:
                    yield from self._compute([turn], outputs)
            return
        if hidden_ND is None:
            return
        finite_N: list[bool] = torch.isfinite(hidden_ND).all(-1).tolist()
        first = 0
        for turn in turns:
            rows = slice(first, first + turn.stop - turn.start)
            first = rows.stop
            if all(finite_N[rows]):
                yield _Computed(turn, hidden_ND[rows])
            else:
                outputs.append(self._fail(turn, "the model computed a number that is not finite"))

    def _read_prompt(self, computed: _Computed) -> None:
        prompt_scores = self._works[computed.turn.request.id].prompt_scores
        if prompt_scores is not None:
            prompt_scores.read(self.model, computed.hidden, start=computed.turn.start)

    def _forward(self, turns: Sequence[Turn]) -> Tensor:
        ids: list[int] = []
        positions: list[int] = []
        spans: list[Span] = []
        for request, start, stop in turns:
            spans.append(Span(len(ids), stop - start, stop, request.pages))
            ids += request.ids[start:stop]
            positions += range(start, stop)
        ids_N, positions_N = (torch.tensor(x, device=self._device) for x in (ids, positions))
        hidden_ND: Tensor = self.model(ids_N, positions_N, attend=PagedAttend(self._cache, spans))
        return hidden_ND

    def _advance(self, ready: Sequence[_Computed]) -> Iterator[Output]:
        """The next token of every request whose tokens are all computed."""
        if not ready:
            return
        scores_RV = self.model.logits(torch.stack([computed.hidden[-1] for computed in ready]))
        finite_R = torch.isfinite(scores_RV).all(-1).tolist()
        scores_RV = scores_RV[:, : self._num_ids]
        best_R = scores_RV.argmax(-1).tolist()
        for computed, scores_V, is_finite, best in zip(ready, scores_RV, finite_R, best_R, strict=True):
            if not is_finite:
                yield self._fail(computed.turn, "the model gave a score that is not a finite number")
                continue
            work = self._works[computed.turn.request.id]
            try:
                yield self._choose(work, scores_V, best)
            except Exception as error:  # noqa: BLE001 - a sampler's failure ends its own request only
                yield self._fail(computed.turn, f"no token could be chosen: {error}")

    def _choose(self, work: _Work, scores_V: Tensor, best: int) -> Output:
        request, sampling = work.request, work.sampling
        prompt = work.prompt_scores.scored if work.prompt_scores and len(request.ids) == work.num_prompt else None
        if len(request.ids) >= work.max_length:
            return self._finish(Output(request.id, None, "length", prompt, request.num_cached or 0))
        token = best
        if not is_plain_greedy(sampling):
            ids = request.ids
            token = work.sampler(scores_V, prompt=ids[: work.num_prompt], answer=ids[work.num_prompt :])
        scored = Scored(token) if sampling.logprobs is None else score(scores_V, token, top=sampling.logprobs)
        request.ids.append(token)
        finish: FinishReason | None = "length" if len(request.ids) >= work.max_length else None
        if token in work.stop_ids:
            finish = "stop"
        output = Output(request.id, scored, finish, prompt, request.num_cached or 0)
        return output if finish is None else self._finish(output)

    def _finish(self, output: Output) -> Output:
        self.cancel(output.request)
        return output

    def _fail(self, turn: Turn, why: str) -> Output:
        """End a request. What it wrote in this turn must not be read by anyone."""
        number = turn.request.id
        self._cache.wipe(turn.request.pages[turn.start // self.pages.page_size :])
        error = RhapsodeError(f"request {number} failed: {why}", "try another prompt; if all fail, check the weights")
        return self._finish(Output(number, None, "error", error=error))


def _num_pages(model: Decoder, *, config: EngineConfig, context: int, dtype: torch.dtype) -> int:
    """As many as the memory holds, and no more than all requests at full length would use."""
    page_bytes = Cache.page_bytes(model.spec, page_size=config.page_size, dtype=dtype)
    useful = config.max_requests * -(-context // config.page_size)
    affordable = config.memory // page_bytes
    if affordable < 1:
        raise RhapsodeError(
            f"a memory of {config.memory} bytes holds no page of keys and values ({page_bytes} bytes)",
            "give the engine more memory or a smaller page_size",
        )
    return min(useful, affordable)
