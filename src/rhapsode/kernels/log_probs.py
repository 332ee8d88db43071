"""How likely the given tokens were, one by one, and how undecided the model was.

Preference and policy training ask this of every answer. The scores exist for a chunk of tokens at a time, in both
directions (see `scores.py`). In bfloat16 on a CPU, C makes each chunk's numbers in two passes over it, and its gradient
in one and in place.

Shapes: N tokens, D width, V vocabulary. hidden [N,D], weight [V,D], targets [N] with IGNORE where nothing is asked.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from rhapsode.kernels import native
from rhapsode.kernels.cross_entropy import IGNORE
from rhapsode.kernels.scores import Projection, ProjectionGradients, round_up


class TokenScores(NamedTuple):
    """[N], both in nats: ln p of each target, and the entropy of the distribution that it was drawn from."""

    log_probs: Tensor
    entropies: Tensor


def token_scores_plain(
    hidden: Tensor, weight: Tensor, targets: Tensor, *, softcap: float | None = None, temperature: float = 1.0
) -> TokenScores:
    """The specification."""
    scores = F.linear(hidden, weight)
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    every = F.log_softmax(scores / temperature, -1)
    asked = targets != IGNORE
    log_probs = every.gather(-1, targets.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    entropies = -(every.exp() * every).sum(-1)
    return TokenScores(log_probs.where(asked, 0), entropies.where(asked, 0))


class _ChunkedTokenScores(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, softcap: float | None, temperature: float
    ) -> tuple[Tensor, Tensor]:
        projection = Projection(hidden, weight, softcap)
        out = _Rows(*(hidden.new_empty(len(hidden), dtype=projection.wide) for _ in range(4)))
        for rows in projection.chunks():
            part = _Rows(*(x[rows] for x in out))
            if _suits(projection):
                products = F.linear(hidden[rows], weight)
                native.call("log_probs", products, targets[rows], 1 / temperature, *part, *products.shape)
            else:
                _measure(projection.scores(rows, temperature=temperature), targets[rows], part)
        ctx.save_for_backward(hidden, weight, targets, *out[1:])
        ctx.softcap, ctx.temperature = softcap, temperature
        return out.log_probs, out.entropies

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None]:
        hidden, weight, targets, *kept = ctx.saved_tensors
        temperature = ctx.temperature
        kept += [grad.contiguous() for grad in grads]
        projection = Projection(hidden, weight, ctx.softcap)
        gradients = ProjectionGradients(projection, ctx.needs_input_grad)
        for rows in projection.chunks():
            part = [x[rows] for x in kept]
            if _suits(projection):
                slope = F.linear(hidden[rows], weight)
                native.call("log_probs_backward", slope, targets[rows], 1 / temperature, *part, *slope.shape)
            else:
                scores = projection.scores(rows, temperature=temperature)
                slope = _slope(scores, targets[rows], *part)
                slope = projection.slope_of_products(slope, scores, temperature=temperature)
            gradients.add(rows, slope)
        return *gradients.finished(), None, None, None


class _Rows(NamedTuple):
    """What is known of each row of scores, [N] each: ln p = score - top - level."""

    log_probs: Tensor
    entropies: Tensor
    tops: Tensor
    levels: Tensor


def _suits(projection: Projection) -> bool:
    return projection.softcap is None and native.suits(projection.hidden, projection.weight)


def _measure(scores: Tensor, targets: Tensor, out: _Rows) -> None:
    """Fill in `out` [n] for scores [n,V], whose place in memory is used."""
    torch.amax(scores, -1, out=out.tops)
    scores.sub_(out.tops[:, None])
    torch.logsumexp(scores, -1, out=out.levels)
    scores.sub_(out.levels[:, None])
    out.log_probs.copy_(scores.gather(1, targets[:, None]).squeeze(1))
    torch.sum(scores.exp().mul_(scores), -1, out=out.entropies).neg_()


def _slope(
    scores: Tensor,
    targets: Tensor,
    entropies: Tensor,
    tops: Tensor,
    levels: Tensor,
    slopes: Tensor,
    entropy_slopes: Tensor,
) -> Tensor:
    """The gradient by scores [n,V]: of ln p it is 1 at the target less p, of the entropy -p (ln p + entropy)."""
    every = (scores - tops[:, None]).sub_(levels[:, None])
    weights = (every + entropies[:, None]).mul_(entropy_slopes[:, None]).add_(slopes[:, None])
    return every.exp_().mul_(weights).neg_().scatter_add_(1, targets[:, None], slopes[:, None])


def chunked_token_scores(
    hidden: Tensor, weight: Tensor, targets: Tensor, *, softcap: float | None = None, temperature: float = 1.0
) -> TokenScores:
    """Of every target its log-probability, and the entropy where it stands; 0 where a target is IGNORE.

    Args:
        hidden: [..., D], after the final norm.
        weight: [V, D], the vocabulary projection.
        targets: [...], int64.
        softcap: scores x become c tanh(x / c) first (Gemma 2).
        temperature: scores are divided by it, as they were when the targets were sampled.

    Returns:
        Both [...] in float32 (float64 for float64), with gradients.
    """
    flat, asked = hidden.flatten(0, -2), targets.flatten()
    kept = (asked != IGNORE).nonzero().squeeze(1)
    rows, of_rows = round_up(flat.index_select(0, kept) if len(kept) < len(asked) else flat), asked[kept]
    of_rows = F.pad(of_rows, (0, len(rows) - len(kept)))
    found = _ChunkedTokenScores.apply(rows, weight, of_rows, softcap, temperature)  # type: ignore[no-untyped-call]
    log_probs, entropies = (
        x.new_zeros(len(asked)).index_copy(0, kept, x[: len(kept)]).view(targets.shape) for x in found
    )
    return TokenScores(log_probs, entropies)


def chunked_log_probs(
    hidden: Tensor, weight: Tensor, targets: Tensor, *, softcap: float | None = None, temperature: float = 1.0
) -> Tensor:
    """[...]: as `chunked_token_scores`, the log-probabilities alone."""
    return chunked_token_scores(hidden, weight, targets, softcap=softcap, temperature=temperature).log_probs
