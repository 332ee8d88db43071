"""Root-mean-square normalisation (Zhang and Sennrich 2019).

Torch runs `rms_norm` on a CPU as a chain of small operators with float32 copies. These keep two tensors for the
backward pass, the input and one number a row, and compute the row statistics in float32.

Shapes: x [..., D], weight [D].
"""

from typing import Any

import torch
from torch import Tensor

from rhapsode.kernels import native

BLOCKS = 64  # as in csrc/norm.c


def rms_norm_plain(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """The specification: x / sqrt(mean(x^2) + eps) * weight, statistics in float32 or better."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    return (wide * scale).to(x.dtype) * weight


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        wide = torch.promote_types(x.dtype, torch.float32)
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=wide)
        scale = torch.rsqrt(norm.square_().div_(x.shape[-1]).add_(eps)).to(x.dtype)
        ctx.save_for_backward(x, weight, scale)
        return (x * scale).mul_(weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight, scale = ctx.saved_tensors
        (grad,) = grads
        wide = torch.promote_types(x.dtype, torch.float32)
        unit = x * scale
        grad_unit = grad * weight
        dot = (grad_unit * unit).sum(-1, keepdim=True, dtype=wide).div_(x.shape[-1]).to(x.dtype)
        grad_weight = (grad * unit).reshape(-1, x.shape[-1]).sum(0, dtype=wide).to(weight.dtype)
        grad_x = grad_unit.addcmul_(unit, dot, value=-1).mul_(scale)
        return grad_x, grad_weight, None


class _NativeRMSNorm(torch.autograd.Function):
    """In C, and where the rows stand: the heads of a token need not be copied out of the product that made them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        x = native.in_heads(x)
        rows = native.Heads.of(x)
        out = torch.empty(x.shape, dtype=x.dtype)
        scales = torch.empty(rows.tokens * rows.heads)
        native.call("rms_norm", x, rows.stride, weight, eps, out, scales, rows.tokens, rows.heads, rows.size)
        ctx.save_for_backward(x, weight, scales)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        x, weight, scales = ctx.saved_tensors
        rows, grad = native.Heads.of(x), grads[0].contiguous()
        grad_x, partial = torch.empty(x.shape, dtype=x.dtype), torch.zeros(BLOCKS, rows.size)
        sizes = (rows.tokens, rows.heads, rows.size)
        native.call("rms_norm_backward", grad, x, rows.stride, weight, scales, grad_x, partial, *sizes)
        return grad_x, partial.sum(0).to(weight.dtype), None


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x [..., D] scaled to unit root mean square and times `weight` [D]."""
    is_native = native.suits(x, weight)
    if not is_native and not torch.is_grad_enabled():
        return rms_norm_plain(x, weight, eps)
    operator = _NativeRMSNorm if is_native else _RMSNorm
    out: Tensor = operator.apply(x, weight, eps)  # type: ignore[no-untyped-call]
    return out
