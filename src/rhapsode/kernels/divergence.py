"""How far a student's distribution over the vocabulary is from its teacher's, token by token.

One family (Agarwal et al. 2023, On-Policy Distillation, arXiv:2306.13649): with teacher p, student q and
m = beta p + (1 - beta) q, the generalised Jensen-Shannon divergence beta KL(p|m) + (1 - beta) KL(q|m). Its ends, where
that is 0, are by convention the forward divergence KL(p|q) at beta 0 and the reverse KL(q|p) at beta 1. The scores of
both exist for a chunk of tokens at a time, in both directions (see `scores.py`).

Shapes: N tokens, n of a chunk, V vocabulary; the widths of student and teacher may differ.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rhapsode.kernels.scores import Projection, ProjectionGradients, round_up

FORWARD, REVERSE = 0.0, 1.0
"""The betas of KL(teacher|student) and of KL(student|teacher)."""


def divergence_plain(student: Tensor, teacher: Tensor, *, beta: float) -> Tensor:
    """The specification: scores [..., V] of both, already divided by the temperature -> [...]."""
    log_q, log_p = F.log_softmax(student, -1), F.log_softmax(teacher, -1)
    if beta == FORWARD:
        return _kl(log_p, log_q)
    if beta == REVERSE:
        return _kl(log_q, log_p)
    log_m = _mixture(log_q, log_p, beta=beta)
    return beta * _kl(log_p, log_m) + (1 - beta) * _kl(log_q, log_m)


def _kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def _mixture(log_q: Tensor, log_p: Tensor, *, beta: float) -> Tensor:
    return torch.logaddexp(log_q + math.log1p(-beta), log_p + math.log(beta))


class _ChunkedDivergence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, teacher: Projection, softcap: float | None, beta: float, heat: float
    ) -> Tensor:
        student = Projection(hidden, weight, softcap)
        out = hidden.new_empty(len(hidden), dtype=student.wide)
        for rows in student.chunks():
            scores = student.scores(rows, temperature=heat), teacher.scores(rows, temperature=heat)
            out[rows] = divergence_plain(*scores, beta=beta)
        ctx.save_for_backward(hidden, weight, teacher.hidden, teacher.weight)
        ctx.caps, ctx.beta, ctx.heat = (softcap, teacher.softcap), beta, heat
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None, None, None]:
        hidden, weight, teacher_hidden, teacher_weight = ctx.saved_tensors
        student = Projection(hidden, weight, ctx.caps[0])
        teacher = Projection(teacher_hidden, teacher_weight, ctx.caps[1])
        gradients = ProjectionGradients(student, ctx.needs_input_grad)
        for rows in student.chunks():
            scores = student.scores(rows, temperature=ctx.heat)
            slope = _slope(scores, teacher.scores(rows, temperature=ctx.heat), beta=ctx.beta)
            slope.mul_(grads[0][rows, None])
            gradients.add(rows, student.slope_of_products(slope, scores, temperature=ctx.heat))
        return *gradients.finished(), None, None, None, None


def _slope(student: Tensor, teacher: Tensor, *, beta: float) -> Tensor:
    """The gradient [n,V] by the student's scores.

    Forward it is q - p. Otherwise a divergence is a mean over q of some f, whose own gradient sums to nothing: there
    it is q (f - mean of f), with f = ln q - ln p in reverse and (1 - beta) (ln q - ln m) between.
    """
    log_q, log_p = F.log_softmax(student, -1), F.log_softmax(teacher, -1)
    q = log_q.exp()
    if beta == FORWARD:
        return q.sub_(log_p.exp_())
    share, other = (1.0, log_p) if beta == REVERSE else (1 - beta, _mixture(log_q, log_p, beta=beta))
    f = log_q.sub_(other).mul_(share)
    return f.sub_((q * f).sum(-1, keepdim=True)).mul_(q)


def chunked_divergence(student: Projection, teacher: Projection, *, beta: float, temperature: float = 1.0) -> Tensor:
    """[N] in nats, float32 (float64 for float64), with the gradient for the student.

    Args:
        student, teacher: hidden states of the same N tokens after the final norm, with their projections onto the same
            vocabulary.
        beta: FORWARD, REVERSE, or between them.
        temperature: the scores of both are divided by it.
    """
    assert student.weight.shape[0] == teacher.weight.shape[0], "two vocabularies"
    assert len(student.hidden) == len(teacher.hidden), "other tokens"
    assert 0 <= beta <= 1, beta
    frozen = Projection(round_up(teacher.hidden.detach()), teacher.weight.detach(), teacher.softcap)
    hidden = round_up(student.hidden)
    out: Tensor = _ChunkedDivergence.apply(hidden, student.weight, frozen, student.softcap, beta, temperature)  # type: ignore[no-untyped-call]
    return out[: len(student.hidden)]
