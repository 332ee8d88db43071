"""Attention over packed documents in C, forward and back: `csrc/attention.c` behind torch's autograd.

What a query sees are the keys from the first of its document within its window to itself; everything before, and so
whole tiles of other documents, is never computed. In a tree, whose sequences share a trunk, it sees a second stretch
of keys, of the trunk, and what lies between is left out too. Scores exist a tile at a time (Dao 2023,
FlashAttention-2).

Shapes: as in `kernels/attention.py`.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from rhapsode.kernels import native

SIZES = range(32, 257, 32)
"""Numbers a head may have."""


def suits(q: Tensor) -> bool:
    """Whether heads like these, q [B,T,H,C], can be computed here."""
    return q.shape[-1] in SIZES and q.numel() > 0 and native.suits(q) and native.has_attention()


def are_contiguous(documents: Tensor, branches: Tensor | None = None) -> bool:
    """Whether every document of documents [B,T] is one stretch of its row: only then do `Stretches` say it all.

    Of a tree every branch has to be one as well, and the trunk, which lies before them.
    """
    if branches is None:
        return _are_runs(documents)
    late = (branches[:, 1:] == 0) & (branches[:, :-1] != 0) & (documents[:, 1:] == documents[:, :-1])
    parts = documents * (branches.max() + 1) + branches
    return _are_runs(documents) and _are_runs(parts) and not late.any()


def _are_runs(numbers: Tensor) -> bool:
    """Whether no number comes back in its row of numbers [B,T] once another has followed it."""
    different = (len(set(row)) for row in numbers.tolist())
    changes = (numbers[:, 1:] != numbers[:, :-1]).sum(1).tolist()
    return all(count == number - 1 for count, number in zip(changes, different, strict=True))


class Stretches(NamedTuple):
    """The keys that each query sees, [B,T] int32 each.

    Attributes:
        first: it sees what lies from here to itself.
        trunk_first, trunk_stop: and what lies from the one to before the other, further back; 0 and 0 are nothing.
    """

    first: Tensor
    trunk_first: Tensor
    trunk_stop: Tensor


def key_stretches(documents: Tensor, branches: Tensor | None = None, *, window: int | None) -> Stretches:
    """Of contiguous documents [B,T], or of trees with the branches [B,T] that places belong to.

    A trunk and the branch behind it are one stretch, as a document is; every later branch is one of its own, and sees
    the trunk besides.
    """
    places = torch.arange(documents.shape[1], device=documents.device)
    branches = torch.zeros_like(documents) if branches is None else branches
    begins = torch.ones_like(documents, dtype=torch.bool)
    begins[:, 1:] = documents[:, 1:] != documents[:, :-1]
    root = torch.where(begins, places, 0).cummax(1).values
    begins[:, 1:] |= (branches[:, 1:] != branches[:, :-1]) & (branches[:, :-1] != 0)
    first = own = torch.where(begins, places, 0).cummax(1).values
    trunk_first, trunk_stop = root, torch.where(branches == 0, places + 1, root).cummax(1).values
    if window is not None:
        first = torch.maximum(own, places + 1 - window)
        trunk_first = torch.maximum(root, trunk_stop + places - own + 1 - window)
    is_apart = (own > root) & (trunk_first < trunk_stop)
    found = (first, trunk_first * is_apart, trunk_stop * is_apart)
    return Stretches(*(x.to(torch.int32).contiguous() for x in found))


class _FlashAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, scale: float, *stretches: Tensor) -> Tensor:
        q, k, v = map(native.in_heads, (q, k, v))
        B, T, H, C = q.shape
        out, levels = torch.empty(q.shape, dtype=q.dtype), torch.empty(B, H, T)
        native.call("attention", *_placed(q, k, v), *stretches, scale, out, levels, B, T, H, k.shape[2], C)
        ctx.save_for_backward(q, k, v, out, levels, *stretches)
        ctx.scale = scale
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, levels, *stretches = ctx.saved_tensors
        B, T, H, C = q.shape
        grad_q, grad_k, grad_v = (torch.empty(x.shape, dtype=x.dtype) for x in (q, k, v))
        native.call(
            "attention_backward", grads[0].contiguous(), *_placed(q, k, v), out, levels, *stretches, ctx.scale,
            grad_q, grad_k, grad_v, B, T, H, k.shape[2], C,
        )  # fmt: skip
        return grad_q, grad_k, grad_v, None, *(None for _ in stretches)


def _placed(*heads: Tensor) -> tuple[Tensor | int, ...]:
    """Each tensor and how far its tokens are apart."""
    return tuple(part for x in heads for part in (x, x.stride(1)))


def attend_flash(q: Tensor, k: Tensor, v: Tensor, scale: float, *, stretches: Stretches) -> Tensor:
    """q [B,T,H,C]; k, v [B,T,K,C] -> [B,T,H,C]; `stretches` as `key_stretches` gives them."""
    out: Tensor = _FlashAttention.apply(q, k, v, scale, *stretches)  # type: ignore[no-untyped-call]
    return out
