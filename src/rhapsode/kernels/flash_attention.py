"""Attention over packed documents in C, forward and back: `csrc/attention.c` behind torch's autograd.

What a query sees is one number, the first key of its document within its window; everything before it, and so whole
tiles of other documents, is never computed. Scores exist a tile at a time (Dao 2023, FlashAttention-2).

Shapes: as in `kernels/attention.py`.
"""

from typing import Any

import torch
from torch import Tensor

from rhapsode.kernels import native

SIZES = range(32, 257, 32)
"""Numbers a head may have."""


def suits(q: Tensor) -> bool:
    """Whether heads like these, q [B,T,H,C], can be computed here."""
    return q.shape[-1] in SIZES and q.numel() > 0 and native.suits(q) and native.has_attention()


def are_contiguous(documents: Tensor) -> bool:
    """Whether every document of documents [B,T] is one stretch of its row: only then does a first key say it all."""
    lengths = (len(set(row)) for row in documents.tolist())
    changes = (documents[:, 1:] != documents[:, :-1]).sum(1).tolist()
    return all(count == length - 1 for count, length in zip(changes, lengths, strict=True))


def first_keys(documents: Tensor, *, window: int | None) -> Tensor:
    """[B,T] document numbers -> [B,T] int32: the first position that a query sees."""
    places = torch.arange(documents.shape[1], device=documents.device)
    begins = torch.ones_like(documents, dtype=torch.bool)
    begins[:, 1:] = documents[:, 1:] != documents[:, :-1]
    first = torch.where(begins, places, 0).cummax(1).values
    if window is not None:
        first = torch.maximum(first, places + 1 - window)
    return first.to(torch.int32)


class _FlashAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, first: Tensor, scale: float) -> Tensor:
        q, k, v = map(native.in_heads, (q, k, v))
        B, T, H, C = q.shape
        out, levels = torch.empty(q.shape, dtype=q.dtype), torch.empty(B, H, T)
        native.call("attention", *_placed(q, k, v), first, scale, out, levels, B, T, H, k.shape[2], C)
        ctx.save_for_backward(q, k, v, out, levels, first)
        ctx.scale = scale
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        q, k, v, out, levels, first = ctx.saved_tensors
        B, T, H, C = q.shape
        grad_q, grad_k, grad_v = (torch.empty(x.shape, dtype=x.dtype) for x in (q, k, v))
        native.call(
            "attention_backward", grads[0].contiguous(), *_placed(q, k, v), out, levels, first, ctx.scale,
            grad_q, grad_k, grad_v, B, T, H, k.shape[2], C,
        )  # fmt: skip
        return grad_q, grad_k, grad_v, None, None


def _placed(*heads: Tensor) -> tuple[Tensor | int, ...]:
    """Each tensor and how far its tokens are apart."""
    return tuple(part for x in heads for part in (x, x.stride(1)))


def attend_flash(q: Tensor, k: Tensor, v: Tensor, scale: float, *, first: Tensor) -> Tensor:
    """q [B,T,H,C]; k, v [B,T,K,C] -> [B,T,H,C]; `first` as `first_keys` gives it."""
    out: Tensor = _FlashAttention.apply(q, k, v, first, scale)  # type: ignore[no-untyped-call]
    return out
