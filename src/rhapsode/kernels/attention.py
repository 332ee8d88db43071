"""Attention over whole rows of packed documents, for training and for measuring.

On a CPU torch's fused attention reaches a tenth of the speed of a bfloat16 matrix product. In bfloat16, where the
processor multiplies it, attention is our own (`flash_attention.py`), and on a GPU it is torch's over ranges of tokens
(`varlen_attention.py`). Elsewhere the fast path is two batched matrix products and a softmax, in blocks of queries: a
block looks only at the keys between the beginning of its first query's window and its own end, which leaves out most of
what is masked anyway. Attention never crosses from one document to the next, nor between branches of a tree: sequences
that begin alike can lie in a row as one trunk and what each goes on with.

Shapes: B rows, T positions, H query heads, K key/value heads, C head size. q [B,T,H,C]; k, v [B,T,K,C]; documents
[B,T].
"""

from functools import cached_property
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from rhapsode.kernels import flash_attention, varlen_attention
from rhapsode.kernels.flash_attention import Stretches, attend_flash, key_stretches
from rhapsode.kernels.varlen_attention import attend_ranges, bounds

QUERY_BLOCK = 128


class Weighing(NamedTuple):
    """How a query weighs the keys it sees.

    Attributes:
        scale: what products are multiplied with.
        window: it sees its own key and the `window` - 1 before it; None is all.
        softcap: products x become c tanh(x / c) (Gemma 2); None leaves them.
    """

    scale: float
    window: int | None = None
    softcap: float | None = None


class Attend(Protocol):
    """How queries reach keys and values: over whole rows in training, over cached pages in the engine."""

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, weighing: Weighing) -> Tensor:
        """q [..., H, C]; k, v [..., K, C], normed and rotated already -> [..., H, C]."""
        ...


def document_mask(documents: Tensor, branches: Tensor | None = None, *, window: int | None = None) -> Tensor:
    """[B,T] document numbers -> [B,1,T,T]: True where a query (row) may see a key (column).

    Args:
        branches: [B,T] of documents that are trees: 0 in the trunk, which every branch sees, and from 1 on in branches,
            which see nothing of each other.
        window: so many keys are seen, the nearest. To every branch the end of the trunk is as near as if nothing lay
            between.
    """
    seen = (documents[:, :, None] == documents[:, None, :]).tril_()
    if branches is None:
        return (seen if window is None else seen.triu_(1 - window))[:, None]
    seen &= (branches[:, None, :] == 0) | (branches[:, None, :] == branches[:, :, None])
    if window is not None:
        positions = seen.sum(-1)
        seen &= positions[:, :, None] - window < positions[:, None, :]
    return seen[:, None]


def attend_masked(
    q: Tensor, k: Tensor, v: Tensor, weighing: Weighing, *, mask: Tensor | None, is_causal: bool = False
) -> Tensor:
    """One attention with the heads before the positions: q [...,H,N,C], k, v [...,K,L,C] -> [...,H,N,C].

    `mask` is True where a query may look, broadcast over the heads; None is everywhere, or where `is_causal` up to
    itself. The window is for whoever makes the mask.
    """
    is_grouped = q.shape[-3] != k.shape[-3]
    if weighing.softcap is None:
        return F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=is_causal, scale=weighing.scale, enable_gqa=is_grouped
        )
    if is_causal:
        mask = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool, device=q.device).tril_()
    if is_grouped:
        k, v = (x.repeat_interleave(q.shape[-3] // k.shape[-3], -3) for x in (k, v))
    scores = q @ k.transpose(-1, -2) * (weighing.scale / weighing.softcap)
    scores = scores.tanh() * weighing.softcap
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return scores.softmax(-1) @ v


def attend_plain(q: Tensor, k: Tensor, v: Tensor, weighing: Weighing, *, mask: Tensor) -> Tensor:
    """The specification: torch's own attention under an explicit mask."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return attend_masked(q, k, v, weighing, mask=mask).transpose(1, 2)


class _BlockedAttention(torch.autograd.Function):
    """q [B,K,G,T,C] with G queries a key head; k, v [B,K,T,C]; bias [B,T,T] is 0 or -inf; `window` as in `Weighing`."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, bias: Tensor, window: int | None) -> Tensor:
        B, K, G, T, C = q.shape
        k, v = k.reshape(B * K, T, C), v.reshape(B * K, T, C)
        out = torch.empty_like(q)
        weights = []
        for start in range(0, T, QUERY_BLOCK):
            end, first = min(start + QUERY_BLOCK, T), _first_key(start, window)
            q_block = q[:, :, :, start:end].reshape(B * K, G * (end - start), C)
            scores = torch.bmm(q_block, k[:, first:end].transpose(1, 2)).view(B, K * G, end - start, end - first)
            scores = torch.softmax(scores.add_(bias[:, None, start:end, first:end]), -1)
            block = torch.bmm(scores.view(B * K, G * (end - start), end - first), v[:, first:end])
            out[:, :, :, start:end] = block.view(B, K, G, end - start, C)
            weights.append(scores)
        ctx.save_for_backward(q, k, v, *weights)
        ctx.window = window
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        q, k, v, *weights = ctx.saved_tensors
        (grad,) = grads
        B, K, G, T, C = q.shape
        grad_q, grad_k, grad_v = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        for start, scores in zip(range(0, T, QUERY_BLOCK), weights, strict=True):
            end, first = min(start + QUERY_BLOCK, T), _first_key(start, ctx.window)
            rows = (B * K, G * (end - start))
            scores = scores.view(*rows, end - first)
            grad_block = grad[:, :, :, start:end].reshape(*rows, C)
            q_block = q[:, :, :, start:end].reshape(*rows, C)
            grad_v[:, first:end] += torch.bmm(scores.transpose(1, 2), grad_block)
            grad_scores = torch.bmm(grad_block, v[:, first:end].transpose(1, 2))
            grad_scores = torch._softmax_backward_data(grad_scores, scores, -1, scores.dtype)
            grad_q[:, :, :, start:end] = torch.bmm(grad_scores, k[:, first:end]).view(B, K, G, end - start, C)
            grad_k[:, first:end] += torch.bmm(grad_scores.transpose(1, 2), q_block)
        return grad_q, grad_k.view(B, K, T, C), grad_v.view(B, K, T, C), None, None


def _first_key(query: int, window: int | None) -> int:
    return 0 if window is None else max(0, query - window + 1)


def attend_blocked(q: Tensor, k: Tensor, v: Tensor, weighing: Weighing, *, bias: Tensor) -> Tensor:
    """As `attend_plain` without a soft cap; `bias` [B,T,T] is 0 where a query may look and -inf elsewhere."""
    B, T, H, C = q.shape
    K = k.shape[2]
    q = (q * weighing.scale).view(B, T, K, H // K, C).permute(0, 2, 3, 1, 4).contiguous()
    k, v = (x.transpose(1, 2).contiguous() for x in (k, v))
    out: Tensor = _BlockedAttention.apply(q, k, v, bias, weighing.window)  # type: ignore[no-untyped-call]
    return out.permute(0, 3, 1, 2, 4).reshape(B, T, H, C)


def _without_empty_trunks(documents: Tensor, branches: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Rows in which nothing is shared are rows of documents, for which there are faster ways."""
    if branches is None or not branches.any():
        return documents, None
    if ((branches == 0) & (documents > 0)).any():
        return documents, branches
    return documents * (branches.max() + 1) + branches, None


class DenseAttend:
    """Attention within the documents of a batch of packed rows; one instance a batch, shared by all layers.

    A document may be a tree, of sequences that begin alike: the trunk is what they share, where `branches` [B,T] is 0,
    and each has a branch, from 1 on. Every sequence is attended to as if it were a document of its own; the trunk is
    there once. The decoder's positions in a branch go on where the trunk ends.

    What a query may see depends on the layer's window alone, and is worked out once for each that occurs.
    """

    def __init__(self, documents: Tensor, branches: Tensor | None = None, *, dtype: torch.dtype) -> None:
        self._documents, self._branches = _without_empty_trunks(documents, branches)
        self._dtype = dtype
        self._stretches: dict[int | None, Stretches] = {}
        self._biases: dict[int | None, Tensor] = {}
        self._masks: dict[int | None, Tensor] = {}
        self._is_narrow = dtype == torch.bfloat16 and documents.device.type == "cpu"

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, weighing: Weighing) -> Tensor:  # noqa: ARG002 - whole rows need no cache of a layer's own
        window = weighing.window
        if window is not None and window >= self._documents.shape[1]:
            window = None
        if q.device.type != "cpu" or weighing.softcap is not None:
            has_ranges = self._branches is None and weighing.softcap is None
            if has_ranges and varlen_attention.suits(q, k) and self._are_contiguous:
                return attend_ranges(q, k, v, weighing.scale, at=self._bounds, window=window)
            return attend_plain(q, k, v, weighing, mask=self._mask(window))
        if self._is_narrow and flash_attention.suits(q) and self._are_contiguous:
            return attend_flash(q, k, v, weighing.scale, stretches=self._seen(window))
        if self._branches is not None:
            weighing = weighing._replace(window=None)  # what is near to a branch may lie far back in its row
        return attend_blocked(q, k, v, weighing, bias=self._bias(window))

    @cached_property
    def _are_contiguous(self) -> bool:
        return flash_attention.are_contiguous(self._documents, self._branches)

    @cached_property
    def _bounds(self) -> Tensor:
        return bounds(self._documents)

    def _seen(self, window: int | None) -> Stretches:
        if window not in self._stretches:
            self._stretches[window] = key_stretches(self._documents, self._branches, window=window)
        return self._stretches[window]

    def _mask(self, window: int | None) -> Tensor:
        if window not in self._masks:
            self._masks[window] = document_mask(self._documents, self._branches, window=window)
        return self._masks[window]

    def _bias(self, window: int | None) -> Tensor:
        """0 where a query may look and -inf elsewhere, [B,T,T]."""
        if window not in self._biases:
            mask = document_mask(self._documents, self._branches, window=window)[:, 0]
            bias = torch.zeros(mask.shape, dtype=self._dtype, device=mask.device)
            self._biases[window] = bias.masked_fill_(~mask, float("-inf"))
        return self._biases[window]
