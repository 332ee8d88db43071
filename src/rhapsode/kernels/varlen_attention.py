"""Flash attention on a GPU that never leaves a document: rows end to end, and the places where documents begin.

A mask keeps torch from its flash kernels, and costs T^2 memory. Ranges do not: `varlen_attn` takes the bounds of the
sequences that lie one after the other in a batch. It is young, so what it gives is compared with the plain twin once
on every kind of heads before it is used; where it fails or differs, attention goes through a mask, and that is said.

Shapes: as in `kernels/attention.py`.
"""

import functools
import warnings
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

FEWEST = 64
"""Bounds of a batch, at least; powers of two of them, so that a compiled model meets few shapes."""
ALIKE = 0.02
"""How far bfloat16 may be from the twin, as a share of the length."""

Varlen = Callable[[Tensor, Tensor, Tensor, Tensor, int, float, int | None], Tensor]
"""q [N,H,C], k and v [N,K,C], bounds, the longest range, the scale, the window -> [N,H,C]."""


def bounds(documents: Tensor) -> Tensor:
    """[B,T] document numbers -> where each range begins in the B T tokens, and their end, int32.

    Padding is a range of its own, and no range crosses rows. Empty ranges at the end fill up.
    """
    begins = torch.ones_like(documents, dtype=torch.bool)
    begins[:, 1:] = documents[:, 1:] != documents[:, :-1]
    places = begins.flatten().nonzero()[:, 0]
    size = max(FEWEST, 1 << len(places).bit_length())
    found = places.new_full((size + 1,), documents.numel(), dtype=torch.int32)
    found[: len(places)] = places
    return found


def attend_ranges(
    q: Tensor, k: Tensor, v: Tensor, scale: float, *, at: Tensor, window: int | None, varlen: Varlen | None = None
) -> Tensor:
    """q [B,T,H,C]; k, v [B,T,K,C] -> [B,T,H,C]; `at` as `bounds` gives it."""
    attend = varlen or _torch_varlen
    return attend(q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), at, q.shape[1], scale, window).view_as(q)


def _torch_varlen(
    q: Tensor, k: Tensor, v: Tensor, at: Tensor, longest: int, scale: float, window: int | None
) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    left = -1 if window is None else window - 1
    is_grouped = q.shape[1] != k.shape[1]
    found = varlen_attn(q, k, v, at, at, longest, longest, scale=scale, window_size=(left, 0), enable_gqa=is_grouped)
    assert isinstance(found, Tensor)
    return found


def suits(q: Tensor, k: Tensor) -> bool:
    """Whether heads like these, q [B,T,H,C] and k [B,T,K,C], are on a GPU where it has been seen to be right."""
    return q.device.type == "cuda" and q.dtype in (torch.bfloat16, torch.float16) and _is_right(_kind(q, k))


class Kind(NamedTuple):
    """Heads that are alike: where they lie, their type, how many query and key heads, and their size."""

    device: torch.device
    dtype: torch.dtype
    heads: int
    kv_heads: int
    size: int


def _kind(q: Tensor, k: Tensor) -> Kind:
    return Kind(q.device, q.dtype, q.shape[2], k.shape[2], q.shape[3])


@functools.cache
def _is_right(kind: Kind) -> bool:
    try:
        distance = distance_from_plain(kind)
    except (RuntimeError, ImportError, TypeError, AssertionError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
    else:
        if distance < ALIKE:
            return True
        reason = f"its results are {distance:.0%} away from the plain ones"
    message = f"flash attention does not work here ({reason}): attention goes through a mask, which is slower"
    warnings.warn(message, stacklevel=2)
    return False


def distance_from_plain(kind: Kind, *, varlen: Varlen | None = None) -> float:
    """How far results and gradients are from `attend_plain`'s, as a share of their length: the furthest of them.

    Raises:
        RuntimeError: what torch said, if there is no such operator.
    """
    from rhapsode.kernels.attention import Weighing, attend_plain, document_mask

    random = torch.Generator().manual_seed(0)
    documents = torch.tensor([[1] * 40 + [2] * 24, [1] * 64], device=kind.device)
    shapes = ((2, 64, heads, kind.size) for heads in (kind.heads, kind.kv_heads, kind.kv_heads))
    q, k, v = (torch.randn(s, generator=random).to(kind.device, kind.dtype).requires_grad_() for s in shapes)
    furthest, scale = 0.0, kind.size**-0.5
    for window in (None, 10):
        mask = document_mask(documents, window=window)
        found = attend_ranges(q, k, v, scale, at=bounds(documents), window=window, varlen=varlen)
        plain = attend_plain(q, k, v, Weighing(scale, window), mask=mask)
        slope = torch.ones_like(plain)
        pairs = zip(
            (found, *torch.autograd.grad(found, (q, k, v), slope)),
            (plain, *torch.autograd.grad(plain, (q, k, v), slope)),
            strict=True,
        )
        for a, b in pairs:
            a, b = a.detach().float(), b.detach().float()
            furthest = max(furthest, float((a - b).norm() / b.norm()))
    return furthest
