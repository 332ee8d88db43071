"""x W^T + b with a learnt matrix of low rank beside the frozen W (LoRA, Hu et al. 2021, arXiv:2106.09685).

What the decoder stacks for speed (query, key, value) is one product here too, of which some rows have a pair A, B of
their own. Nothing of the size of W is made for the backward pass: there is no gradient for W, and what is kept are x
and x A^T, the product with all A at once.

Shapes: N rows of x (any leading shape outside of the operator), I columns of W, O rows of W, R all ranks together.
A pair has `a` [r,I] and `b` [rows,r]. The matrix adds scale * B A to its rows of W.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from rhapsode.kernels.frozen import FrozenMatrix
from rhapsode.kernels.linear import linear


class Pair(NamedTuple):
    """What is learnt beside the rows of a matrix from `first` on, as many as `b` has."""

    first: int
    a: Tensor
    b: Tensor

    @property
    def rows(self) -> slice:
        return slice(self.first, self.first + len(self.b))


def low_rank_plain(x: Tensor, matrix: FrozenMatrix, bias: Tensor | None, pairs: Sequence[Pair], scale: float) -> Tensor:
    """The specification."""
    out = F.linear(x, matrix.dense(x.dtype), bias)
    for pair in pairs:
        learnt = scale * F.linear(F.linear(x, pair.a), pair.b)
        out = out + F.pad(learnt, (pair.first, out.shape[-1] - pair.rows.stop))
    return out


class _LowRank(torch.autograd.Function):
    """x [N,I], a [R,I] (None where there are no pairs) and the B of every pair -> [N,O]."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        matrix: FrozenMatrix,
        bias: Tensor | None,
        rows: Sequence[slice],
        scale: float,
        a: Tensor | None,
        *bs: Tensor,
    ) -> Tensor:
        out = linear(x, matrix.dense(x.dtype), bias)
        ctx.matrix, ctx.rows, ctx.scale = matrix, rows, scale
        if a is None:
            return out
        inner_NR = F.linear(x, a)
        for span, b, inner in zip(rows, bs, _split(inner_NR, bs), strict=True):
            out[:, span].addmm_(inner, b.t(), alpha=scale)
        ctx.save_for_backward(x, inner_NR, a, *bs)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        grad_x = grad @ ctx.matrix.dense(grad.dtype) if ctx.needs_input_grad[0] else None
        saved = ctx.saved_tensors  # asked for once: where blocks are recomputed, that is what computes them
        if not saved:
            return grad_x, None, None, None, None, None
        x, inner_NR, a, *bs = saved
        parts = [grad[:, span] for span in ctx.rows]
        grad_inner_NR = torch.cat([part @ b for part, b in zip(parts, bs, strict=True)], 1).mul_(ctx.scale)
        grad_bs = [(p.t() @ i).mul_(ctx.scale) for p, i in zip(parts, _split(inner_NR, bs), strict=True)]
        if grad_x is not None:
            grad_x.addmm_(grad_inner_NR, a)
        return grad_x, None, None, None, None, grad_inner_NR.t() @ x, *grad_bs


def low_rank(x: Tensor, matrix: FrozenMatrix, bias: Tensor | None, pairs: Sequence[Pair], scale: float) -> Tensor:
    """x [..., I] -> [..., O], with gradients for x, A and B alone."""
    rows = [pair.rows for pair in pairs]
    a = torch.cat([pair.a for pair in pairs]) if pairs else None
    flat = x.reshape(-1, x.shape[-1])
    out: Tensor = _LowRank.apply(flat, matrix, bias, rows, scale, a, *(p.b for p in pairs))  # type: ignore[no-untyped-call]
    return out.view(*x.shape[:-1], matrix.shape[0])


@torch.no_grad()
def row_norms(weight: Tensor, a: Tensor, b: Tensor, scale: float) -> Tensor:
    """The norms [O] of the rows of W + scale * B A, in float32 or wider, without making that matrix.

    |w + s b A|^2 = |w|^2 + 2 s b (A w) + s^2 b (A A^T) b.
    """
    wide = torch.promote_types(weight.dtype, torch.float32)
    own = torch.linalg.vector_norm(weight, dim=1, dtype=wide).square()
    gram_RR, b = (a @ a.t()).to(wide), b.to(wide)
    mixed = ((weight @ a.t()).to(wide) * b).sum(1)
    learnt = ((b @ gram_RR) * b).sum(1)
    square: Tensor = own + 2 * scale * mixed + scale**2 * learnt
    return square.clamp_min_(0).sqrt_()


def _split(inner_NR: Tensor, bs: Sequence[Tensor]) -> Sequence[Tensor]:
    pieces: Sequence[Tensor] = inner_NR.split([b.shape[1] for b in bs], 1)
    return pieces
