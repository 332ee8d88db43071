"""Carrying out a `Sampling`: scores of one request -> one token.

The steps are composed once a request, in the order that transformers uses: biases and penalties, temperature, top-k,
top-p, min-p. A step maps scores [V] to scores [V]; what it rules out becomes -inf. The draw is by inverse
cumulative probability from one uniform number, so a request consumes exactly one number a token and
its answer does not depend on what else is in the batch.

Shapes: V vocabulary.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from rhapsode.engine.sampling import Sampling

NEVER = float("-inf")
COLDEST = 1e-6

Step = Callable[[Tensor], Tensor]


class Sampler(Protocol):
    """Chooses the next token of one request."""

    def __call__(self, scores: Tensor, *, prompt: Sequence[int], answer: Sequence[int]) -> int:
        """The token for these scores [V], which stay untouched."""
        ...


def is_plain_greedy(sampling: Sampling) -> bool:
    """The likeliest token and nothing else: a whole batch of those is one argmax."""
    return sampling.temperature == 0 and not sampling.logit_bias and not _has_penalty(sampling)


def compose(sampling: Sampling) -> Sampler:
    """The sampler of one request. It owns the request's random numbers."""
    penalise = _penalties(sampling)
    steps = _steps(sampling)
    generator = torch.Generator()
    if sampling.seed is None:
        generator.seed()
    else:
        generator.manual_seed(sampling.seed % 2**64)

    def sample(scores: Tensor, *, prompt: Sequence[int], answer: Sequence[int]) -> int:
        scores = penalise(scores, prompt, answer)
        if sampling.temperature == 0:
            return int(scores.argmax())
        for step in steps:
            scores = step(scores)
        return draw(scores, torch.rand((), dtype=torch.float64, generator=generator).item())

    return sample


def draw(scores: Tensor, uniform: float) -> int:
    """The token at `uniform` (0 <= uniform < 1) of the cumulative probability. Never one that was ruled out."""
    reached = torch.softmax(scores.double(), -1).cumsum(-1)
    place = int(torch.searchsorted(reached, uniform * reached[-1:], right=True))
    if place < len(reached):  # where the sum rises, and so nothing that was ruled out
        return place
    return int(torch.nonzero(scores > NEVER)[-1])  # rounding has put it behind all


def temper(scores: Tensor, *, temperature: float) -> Tensor:
    """Shifted so that the best is 0: a tiny temperature then leaves only the best, and nothing overflows.

    In float32 at least, as where a policy learns from what was drawn: bfloat16 would round the new scores once more.
    """
    wide = scores.to(torch.promote_types(scores.dtype, torch.float32))
    return (wide - wide.max()) / max(temperature, COLDEST)


def keep_top_k(scores: Tensor, *, top_k: int) -> Tensor:
    """Ties with the k-th are kept."""
    if top_k >= len(scores):
        return scores
    return scores.masked_fill(scores < torch.topk(scores, top_k).values[-1], NEVER)


def keep_top_p(scores: Tensor, *, top_p: float) -> Tensor:
    """The smallest set of likeliest tokens that reaches `top_p`; always the likeliest."""
    ordered, order = scores.sort(descending=True, stable=True)
    chances = torch.softmax(ordered, -1)
    before = chances.cumsum(-1) - chances
    drop = before >= top_p
    drop[0] = False
    return scores.index_fill(0, order[drop], NEVER)


def keep_min_p(scores: Tensor, *, min_p: float) -> Tensor:
    chances = torch.softmax(scores, -1)
    return scores.masked_fill(chances < min_p * chances.max(), NEVER)


def _has_penalty(sampling: Sampling) -> bool:
    return sampling.repetition_penalty != 1 or sampling.frequency_penalty != 0 or sampling.presence_penalty != 0


def _steps(sampling: Sampling) -> list[Step]:
    steps: list[Step] = []
    if sampling.temperature != 1:
        steps.append(lambda scores: temper(scores, temperature=sampling.temperature))
    if sampling.top_k > 0:
        steps.append(lambda scores: keep_top_k(scores, top_k=sampling.top_k))
    if sampling.top_p < 1:
        steps.append(lambda scores: keep_top_p(scores, top_p=sampling.top_p))
    if sampling.min_p > 0:
        steps.append(lambda scores: keep_min_p(scores, min_p=sampling.min_p))
    return steps


def _penalties(sampling: Sampling) -> Callable[[Tensor, Sequence[int], Sequence[int]], Tensor]:
    bias_ids, biases = list(sampling.logit_bias), list(sampling.logit_bias.values())
    if not bias_ids and not _has_penalty(sampling):
        return lambda scores, prompt, answer: scores  # noqa: ARG005

    def penalise(scores: Tensor, prompt: Sequence[int], answer: Sequence[int]) -> Tensor:
        scores = scores.clone()
        scores[bias_ids] += scores.new_tensor(biases)
        if sampling.repetition_penalty != 1 and (prompt or answer):
            seen = torch.tensor(sorted({*prompt, *answer}), device=scores.device)
            old = scores[seen]
            factor = sampling.repetition_penalty
            scores[seen] = torch.where(old < 0, old * factor, old / factor)
        if answer and (sampling.frequency_penalty or sampling.presence_penalty):
            counts = Counter(answer)
            taken = [sampling.presence_penalty + sampling.frequency_penalty * count for count in counts.values()]
            scores[list(counts)] -= scores.new_tensor(taken)
        return scores

    return penalise
