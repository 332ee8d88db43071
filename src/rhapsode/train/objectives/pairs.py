"""Preferences as an objective: the two answers of every pair in a batch, scored by the model, and by what it was."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

import torch
from torch import Tensor

from rhapsode.kernels.attention import DenseAttend
from rhapsode.kernels.cross_entropy import IGNORE
from rhapsode.kernels.log_probs import chunked_log_probs
from rhapsode.model.decoder import Decoder, Lower
from rhapsode.train.objective import Batch, hidden_states
from rhapsode.train.objectives.loss import Loss
from rhapsode.train.objectives.preference import Pairs, dpo, ipo, orpo, simpo
from rhapsode.train.objectives.sequences import sequence_lengths, sequence_sums


class Reference(NamedTuple):
    """What the model was before training: a model of its own, or the same one within `context`."""

    model: Decoder
    context: Callable[[], AbstractContextManager[None]]


class Preferences:
    """DPO, IPO, ORPO or SimPO; a term is a pair."""

    measures: tuple[str, ...] = ("reward_chosen", "reward_rejected", "right")

    def __init__(self, name: str, numbers: Mapping[str, float], *, reference: Reference | None) -> None:
        self.__name__ = name
        self._numbers, self._reference = dict(numbers), reference

    def begin(self, model: Decoder, step: Sequence[Batch]) -> None:
        pass

    def __call__(self, model: Decoder, batch: Batch) -> Loss:
        is_mean = self.__name__ != "dpo"
        lower = None if self._reference is None else shared_below(model, self._reference, batch)
        policy = pairs_of(model, batch, is_mean=is_mean, lower=lower)
        match self.__name__:
            case "dpo":
                found = dpo(policy, self._before(batch, is_mean=is_mean, lower=lower), **self._numbers)
            case "ipo":
                found = ipo(policy, self._before(batch, is_mean=is_mean, lower=lower), **self._numbers)
            case "orpo":
                found = orpo(policy, **self._numbers)
            case _:
                found = simpo(policy, **self._numbers)
        return found._replace(tokens=batch.num_targets)

    @torch.no_grad()
    def _before(self, batch: Batch, *, is_mean: bool, lower: Lower | None) -> Pairs:
        assert self._reference is not None, "this objective compares with the model of before"
        with self._reference.context():
            return pairs_of(self._reference.model, batch, is_mean=is_mean, lower=lower)


@torch.no_grad()
def shared_below(model: Decoder, reference: Reference, batch: Batch) -> Lower | None:
    """What the blocks below the lowest trained one make of the batch, which model and reference have in common.

    With f of the blocks below, and as much to compute on the way back as on the way there, a step with a reference
    costs 3 - 2 f forward passes in place of 3 - f.
    """
    if reference.model is not model or not (layers := lowest_trained(model)):
        return None
    attend = DenseAttend(batch.documents, batch.branches, dtype=model.embedding.weight.dtype)
    return model.lower(batch.ids, batch.positions, attend=attend, layers=layers)


def lowest_trained(model: Decoder) -> int:
    """The lowest block of which something is trained; 0 where something below the blocks is."""
    below = (model.embedding, *([model.positions] if model.positions is not None else []))
    if any(p.requires_grad for module in below for p in module.parameters()):
        return 0
    trained = (any(p.requires_grad for p in block.parameters()) for block in model.layers)
    return next((index for index, is_trained in enumerate(trained) if is_trained), 0)


def pairs_of(model: Decoder, batch: Batch, *, is_mean: bool, lower: Lower | None = None) -> Pairs:
    """The log-probabilities [P] of both answers of every pair in the batch, summed over tokens or their mean.

    Args:
        lower: as in `hidden_states`.
    """
    hidden = hidden_states(model, batch, lower=lower).flatten(0, 1)
    kept = (batch.targets.flatten() != IGNORE).nonzero().squeeze(1)
    targets_N = batch.targets.flatten()[kept]
    log_probs_N = chunked_log_probs(hidden[kept], model.head.weight, targets_N, softcap=model.spec.logit_softcap)
    sequence_N, count = _sequences(batch, kept)
    sums_S = sequence_sums(log_probs_N, sequence_N, count)
    if is_mean:
        sums_S = sums_S / sequence_lengths(sequence_N, count)
    return Pairs(sums_S[0::2], sums_S[1::2])


def _sequences(batch: Batch, kept: Tensor) -> tuple[Tensor, int]:
    """For each learned token the number of its answer: of pair p 2p is that in an odd branch, such as the chosen one,
    and 2p + 1 that in an even branch.
    """
    rows_BT = torch.arange(len(batch.ids), device=batch.ids.device)[:, None].expand_as(batch.ids)
    trees_N = (rows_BT * (batch.documents.max() + 1) + batch.documents).flatten()[kept]
    pairs, pair_N = torch.unique(trees_N, return_inverse=True)
    return 2 * pair_N + (batch.branches.flatten()[kept] - 1) % 2, 2 * len(pairs)
