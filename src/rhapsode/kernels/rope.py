"""Rotary position embedding (Su et al. 2021), the half-split layout that Hugging Face's directories use.

Shapes: x [..., heads, C], positions [...]; the table has one row [C] for cosine and one for sine per position.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from rhapsode.kernels import native


class Rotation(NamedTuple):
    """cos and sin, each [..., 1, C]; sin carries the sign of the half it belongs to."""

    cos: Tensor
    sin: Tensor


def rotation(positions: Tensor, frequencies: Tensor, *, scale: float = 1.0, dtype: torch.dtype) -> Rotation:
    """Angles positions * frequencies, computed in the type of the frequencies and rounded once.

    Args:
        positions: [...], in tokens.
        frequencies: [C/2], in radians a token; float32 or better.
        scale: what cosine and sine are multiplied with.
        dtype: of the result.
    """
    angle = positions.to(frequencies.dtype)[..., None, None] * frequencies
    cos, sin = angle.cos() * scale, angle.sin() * scale
    return Rotation(torch.cat((cos, cos), -1).to(dtype), torch.cat((-sin, sin), -1).to(dtype))


def rotate_plain(x: Tensor, turn: Rotation) -> Tensor:
    """The specification: (a, b) -> (a cos - b sin, b cos + a sin) for the two halves a, b of every head."""
    a, b = x.chunk(2, -1)
    return x * turn.cos + torch.cat((b, a), -1) * turn.sin


class _Rotate(torch.autograd.Function):
    """The backward of a rotation is the rotation by the opposite angle: nothing but the table is kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turn(x, cos, sin)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _turn(grads[0], cos, -sin), None, None


def _turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    out = x * cos
    out[..., :half].addcmul_(x[..., half:], sin[..., :half])
    out[..., half:].addcmul_(x[..., :half], sin[..., half:])
    return out


class _NativeRotate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turn_native(native.in_heads(x), cos, sin, 1.0)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _turn_native(native.in_heads(grads[0]), cos, sin, -1.0), None, None


def _turn_native(x: Tensor, cos: Tensor, sin: Tensor, sign: float) -> Tensor:
    heads, size = x.shape[-2:]
    out = torch.empty(x.shape, dtype=x.dtype)
    native.call("rotate", x, x.stride(-3), cos, sin, sign, out, x.numel() // (heads * size), heads, size)
    return out


def rotate(x: Tensor, turn: Rotation) -> Tensor:
    """x [..., heads, C] turned by its position; of a table narrower than C, the first dimensions alone."""
    dims = turn.cos.shape[-1]
    if dims < x.shape[-1]:
        return torch.cat((rotate(x[..., :dims], turn), x[..., dims:]), -1)
    is_native = native.suits(x, *turn) and turn.cos.shape[:-2] == x.shape[:-2]
    if not is_native and not torch.is_grad_enabled():
        return rotate_plain(x, turn)
    operator = _NativeRotate if is_native else _Rotate
    out: Tensor = operator.apply(x, *turn)  # type: ignore[no-untyped-call]
    return out
