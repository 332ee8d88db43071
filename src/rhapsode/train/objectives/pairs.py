"""Preferences as an objective: the two answers of every pair in a batch, scored by the model, and by what it was."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple

import torch
from torch import Tensor

from rhapsode.kernels.cross_entropy import IGNORE
from rhapsode.kernels.log_probs import chunked_log_probs
from rhapsode.model.decoder import Decoder
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
        policy = pairs_of(model, batch, is_mean=is_mean)
        match self.__name__:
            case "dpo":
                found = dpo(policy, self._before(batch, is_mean=is_mean), **self._numbers)
            case "ipo":
                found = ipo(policy, self._before(batch, is_mean=is_mean), **self._numbers)
            case "orpo":
                found = orpo(policy, **self._numbers)
            case _:
                found = simpo(policy, **self._numbers)
        return found._replace(tokens=batch.num_targets)

    @torch.no_grad()
    def _before(self, batch: Batch, *, is_mean: bool) -> Pairs:
        assert self._reference is not None, "this objective compares with the model of before"
        with self._reference.context():
            return pairs_of(self._reference.model, batch, is_mean=is_mean)


def pairs_of(model: Decoder, batch: Batch, *, is_mean: bool) -> Pairs:
    """The log-probabilities [P] of both answers of every pair in the batch, summed over tokens or their mean."""
    hidden = hidden_states(model, batch).flatten(0, 1)
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
