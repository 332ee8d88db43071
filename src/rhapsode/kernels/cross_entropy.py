"""Vocabulary projection and cross-entropy in one operator, in chunks of tokens.

The logits of a step (tokens x vocabulary) are its largest tensor. Here they exist for one chunk at a time: the forward
pass already computes the gradients, since the loss is a plain sum, and keeps only those (as in Liger-kernel,
arXiv:2410.10989). Positions without a target are left out before the projection.

Shapes: N tokens, D width, V vocabulary. hidden [N,D], weight [V,D], targets [N] with IGNORE where there is no loss.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from rhapsode.kernels import native
from rhapsode.kernels.scores import round_up

IGNORE = -100
CHUNK = 1024
AT_ONCE = 1 << 26
"""Scores that exist at one time: of a vocabulary of 262,144 a chunk has 256 tokens, which still fill a processor."""


class LossSum(NamedTuple):
    """The sum of -ln p over `tokens` targets: a sum and never a mean, so that any split of a step adds up."""

    total: Tensor
    tokens: int


def cross_entropy_plain(hidden: Tensor, weight: Tensor, targets: Tensor, *, softcap: float | None = None) -> Tensor:
    """The specification."""
    logits = F.linear(hidden, weight)
    if softcap is not None:
        logits = torch.tanh(logits / softcap) * softcap
    wide = torch.promote_types(logits.dtype, torch.float32)
    return F.cross_entropy(logits.to(wide), targets, ignore_index=IGNORE, reduction="sum")


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, softcap: float | None) -> Tensor:
        wide = torch.promote_types(hidden.dtype, torch.float32)
        total = hidden.new_zeros((), dtype=wide)
        grad_hidden = torch.empty_like(hidden)
        grad_weight = torch.zeros_like(weight, dtype=wide) if ctx.needs_input_grad[1] else None
        chunk = chunk_of(weight.shape[0])
        for start in range(0, hidden.shape[0], chunk):
            rows, target = hidden[start : start + chunk], targets[start : start + chunk]
            logits = F.linear(rows, weight)
            loss, slope = _loss_and_slope(logits, target, softcap=softcap)
            total += loss
            grad_hidden[start : start + chunk] = slope @ weight
            if grad_weight is not None:
                grad_weight += slope.t() @ rows
        ctx.save_for_backward(grad_hidden, None if grad_weight is None else grad_weight.to(weight.dtype))
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None, None, None]:
        grad_hidden, grad_weight = ctx.saved_tensors
        scale = grads[0]
        if grad_weight is not None:
            grad_weight = grad_weight * scale.to(grad_weight.dtype)
        return grad_hidden * scale.to(grad_hidden.dtype), grad_weight, None, None


def chunk_of(vocab_size: int) -> int:
    """Tokens whose scores exist at one time."""
    return max(1, min(CHUNK, AT_ONCE // vocab_size))


def _loss_and_slope(logits: Tensor, targets: Tensor, *, softcap: float | None) -> tuple[Tensor, Tensor]:
    """The summed loss of logits [N,V], and its gradient, which takes their place in memory; IGNORE has neither."""
    if softcap is None and native.suits(logits):
        losses = torch.empty(len(logits))
        native.call("cross_entropy", logits, targets, losses, *logits.shape)
        return losses.sum(), logits
    asked = (targets != IGNORE)[:, None]
    target = targets[:, None].clamp(min=0)
    wide = torch.promote_types(logits.dtype, torch.float32)
    capped = None
    if softcap is not None:
        capped = logits.div_(softcap).tanh_()
        logits = capped * softcap
    top = logits.amax(-1, keepdim=True)
    picked = logits.gather(1, target).to(wide)
    probability = logits.sub_(top).exp_()
    mass = probability.sum(-1, keepdim=True, dtype=wide)
    loss = (mass.log() + top.to(wide) - picked).where(asked, 0).sum()
    probability.mul_(mass.reciprocal().where(asked, 0).to(probability.dtype))
    probability.scatter_add_(1, target, -asked.to(probability.dtype))
    if capped is not None:  # d cap tanh(x / cap) = 1 - tanh^2
        probability.addcmul_(probability, capped.square_(), value=-1)
    return loss, probability


def chunked_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor, *, softcap: float | None = None) -> LossSum:
    """The summed loss over all targets that are not IGNORE, and their number.

    Args:
        hidden: [..., D], after the final norm.
        weight: [V, D], the vocabulary projection.
        targets: [...], int64.
        softcap: scores x become c tanh(x / c) first (Gemma 2).
    """
    hidden, targets = hidden.flatten(0, -2), targets.flatten()
    kept = (targets != IGNORE).nonzero().squeeze(1)
    if len(kept) < len(targets):
        hidden, targets = round_up(hidden.index_select(0, kept)), targets.index_select(0, kept)
        targets = F.pad(targets, (0, len(hidden) - len(targets)), value=IGNORE)
    if torch.is_grad_enabled():
        total: Tensor = _ChunkedCrossEntropy.apply(hidden, weight, targets, softcap)  # type: ignore[no-untyped-call]
    else:
        size = chunk_of(weight.shape[0])
        chunks = zip(hidden.split(size), targets.split(size), strict=True)
        losses = [_loss_and_slope(F.linear(rows, weight), target, softcap=softcap)[0] for rows, target in chunks]
        total = torch.stack(losses).sum()
    return LossSum(total, len(kept))
