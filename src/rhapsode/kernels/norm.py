"""Root-mean-square normalisation (Zhang and Sennrich 2019).

Torch runs `rms_norm` on a CPU as a chain of small operators with float32 copies. This one keeps two tensors for the
backward pass, the input and one number a row, and computes the row statistics in float32.

Shapes: x [..., D], weight [D].
"""

from typing import Any

import torch
from torch import Tensor


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


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x [..., D] scaled to unit root mean square and times `weight` [D]."""
    if torch.is_grad_enabled():
        out: Tensor = _RMSNorm.apply(x, weight, eps)  # type: ignore[no-untyped-call]
        return out
    return rms_norm_plain(x, weight, eps)
