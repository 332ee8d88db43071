"""Vectors by contrast: of all passages of a step, a query's own is to be the most similar (InfoNCE).

The more passages, the harder and the better (Karpukhin et al. 2020), and they must not depend on how many rows fit into
memory. So the vectors of the whole step are computed first, without a gradient; the loss of all of them gives each
vector its gradient; and every micro-batch carries those of its own vectors into the weights (GradCache, Gao et al.
2021, arXiv:2101.06983). It costs one more forward pass where there is more than one micro-batch.

Shapes: S sequences, Q queries, P passages, D width.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from rhapsode.kernels.cross_entropy import IGNORE
from rhapsode.model.decoder import Decoder
from rhapsode.train.objective import Batch
from rhapsode.train.objectives.heads import sequence_states
from rhapsode.train.objectives.loss import Loss

PASSAGE = 2
"""The branch of a query's own passage; before it stands the query, behind it what is no passage of it."""
MIX = 6364136223846793005  # Knuth's, of a linear congruential generator
MASK = 0x7FFFFFFF


class Texts(NamedTuple):
    """The vectors [S,D] of sequences, which branch each is [S], and a number that is the same for the same ids [S]."""

    vectors: Tensor
    branches: Tensor
    prints: Tensor


class _Share(NamedTuple):
    """What a micro-batch has of its step: the gradient of its vectors, its queries' loss, and how many are right."""

    batch: Batch
    gradient: Tensor
    loss: Tensor
    right: Tensor


class Embed:
    """InfoNCE over the cosine of vectors; a term is a query."""

    __name__ = "embed"
    measures: tuple[str, ...] = ("right",)

    def __init__(self, *, temperature: float) -> None:
        self._temperature = temperature
        self._shares: list[_Share] = []

    def begin(self, model: Decoder, step: Sequence[Batch]) -> None:
        self._shares = []
        if len(step) < 2:
            return
        with torch.no_grad():
            found = [texts_of(model, batch) for batch in step]
        whole = Texts(*(torch.cat(parts) for parts in zip(*found, strict=True)))
        with torch.enable_grad():
            vectors_SD = whole.vectors.requires_grad_()
            losses_Q, right_Q = contrast(whole._replace(vectors=vectors_SD), temperature=self._temperature)
            [gradient_SD] = torch.autograd.grad(losses_Q.sum(), vectors_SD)
        queries = [int((texts.branches == 1).sum()) for texts in found]
        parts = (gradient_SD.split([len(t.vectors) for t in found]), losses_Q.detach().split(queries))
        for batch, gradient, losses, right in zip(step, *parts, right_Q.split(queries), strict=True):
            self._shares.append(_Share(batch, gradient, losses.sum(), right.sum()))

    def __call__(self, model: Decoder, batch: Batch) -> Loss:
        texts = texts_of(model, batch)
        count, tokens = int((texts.branches == 1).sum()), len(texts.branches)
        share = next((share for share in self._shares if share.batch is batch), None)
        if share is None:
            losses_Q, right_Q = contrast(texts, temperature=self._temperature)
            return Loss(losses_Q.sum(), count, {"right": right_Q.sum()}, tokens)
        carried = (texts.vectors * share.gradient).sum()
        # the value is the loss, the gradient that of the vectors
        return Loss(carried + (share.loss - carried).detach(), count, {"right": share.right}, tokens)


def texts_of(model: Decoder, batch: Batch) -> Texts:
    """Every sequence of the batch, in the order of the rows; vectors have length 1."""
    ends_S = (batch.targets.flatten() != IGNORE).nonzero().squeeze(1)
    vectors_SD = F.normalize(sequence_states(model, batch), dim=-1)
    return Texts(vectors_SD, batch.branches.flatten()[ends_S], _prints(batch, ends_S))


def contrast(texts: Texts, *, temperature: float) -> tuple[Tensor, Tensor]:
    """The loss of each query, and whether its own passage is the most similar, [Q] both.

    A passage that says the same as a query's own is none of its negatives.
    """
    is_query_S = texts.branches == 1
    queries_QD, passages_PD = texts.vectors[is_query_S], texts.vectors[~is_query_S]
    own_Q = (texts.branches[~is_query_S] == PASSAGE).nonzero().squeeze(1)
    prints_P = texts.prints[~is_query_S]
    scores_QP = queries_QD @ passages_PD.T / temperature
    is_same_QP = prints_P[own_Q][:, None] == prints_P[None]
    is_same_QP[torch.arange(len(own_Q), device=own_Q.device), own_Q] = False
    scores_QP = scores_QP.masked_fill(is_same_QP, -torch.inf)
    return F.cross_entropy(scores_QP, own_Q, reduction="none"), scores_QP.detach().argmax(-1) == own_Q


def _prints(batch: Batch, ends_S: Tensor) -> Tensor:
    """[S] int64: sums over a sequence's tokens, its trunk's included, of numbers mixed from token and place."""
    mixed_BT = ((batch.ids + 1) * MIX) ^ ((batch.positions + 1) * (MIX >> 7))
    mixed_BT = (mixed_BT * MIX >> 17) & MASK
    rows_BT = torch.arange(len(batch.ids), device=batch.ids.device)[:, None].expand_as(batch.ids)
    trees_N = (rows_BT * (int(batch.documents.max()) + 1) + batch.documents).flatten()
    branches_N, mixed_N = batch.branches.flatten(), mixed_BT.flatten()
    width = int(branches_N.max()) + 1
    sums = mixed_N.new_zeros((int(trees_N.max()) + 1) * width).index_add(0, trees_N * width + branches_N, mixed_N)
    own_S = trees_N[ends_S] * width
    return sums[own_S + branches_N[ends_S]] + sums[own_S]
