"""Feedback as an objective: single answers that are good or bad, beside what the model was, and how far it has gone.

The divergence is a number of the whole step, which carries no gradient: it is found first, from answers to something
else that stand beside each prompt (`corpus/examples/mismatch.py`). What the model was says of both is found then too,
in one pass, so that afterwards only the own answers are computed.

Shapes: S answers.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rhapsode.corpus.trees import FIRST_OF_BAD
from rhapsode.kernels.cross_entropy import IGNORE
from rhapsode.model.decoder import Decoder
from rhapsode.train.memory import is_out_of_memory
from rhapsode.train.objective import Batch
from rhapsode.train.objectives.kto import divergence_sum, kto
from rhapsode.train.objectives.loss import Loss
from rhapsode.train.objectives.pairs import Reference, pairs_of, shared_below
from rhapsode.train.ranks.ranks import ALONE, Ranks

WIDTHS = 64
"""Rows that have become shorter are of a multiple of so many places: few shapes are kinder to kernels."""


class _Step(NamedTuple):
    """What is known of a step before its gradient, of all its micro-batches on all ranks together."""

    divergence: float
    good: float
    bad: float


class Feedback:
    """KTO; a term is an answer.

    Rewards of good answers are scaled so that their mean over all terms is that over good answers; of bad ones alike.
    """

    __name__ = "kto"
    measures: tuple[str, ...] = ("reward_good", "reward_bad", "divergence")

    def __init__(self, numbers: Mapping[str, float], *, reference: Reference, ranks: Ranks = ALONE) -> None:
        self._numbers, self._reference, self._ranks = dict(numbers), reference, ranks
        self._step = _Step(0.0, 0.0, 0.0)
        self._before: list[tuple[Batch, Tensor]] = []

    @torch.no_grad()
    def begin(self, model: Decoder, step: Sequence[Batch]) -> None:
        """What the model was says of every answer, and by how much the policy has gone from there.

        Raises:
            MemoryError: on all ranks, if memory ran out on one: they must give up together.
        """
        self._before, sums, failure = [], [0.0, 0.0, 0.0, 0.0], None
        try:
            for batch in step:
                lower = shared_below(model, self._reference, batch)
                with self._reference.context():
                    own_S, others_S = pairs_of(self._reference.model, batch, is_mean=False, lower=lower)
                self._before.append((batch, own_S))
                places = _Places.of(batch, is_own=False)
                lower = None if lower is None else lower._replace(hidden=places.taken(lower.hidden))
                policy_S = pairs_of(model, places.batch(batch), is_mean=False, lower=lower).rejected
                gone, good_S = divergence_sum(policy_S, others_S), good_of(batch)
                found = (float(gone.total), gone.num_terms, int(good_S.sum()), int((~good_S).sum()))
                sums = [before + now for before, now in zip(sums, found, strict=True)]
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            failure = error
        failures, total, count, good, bad = self._ranks.sum([float(failure is not None), *sums])
        if failures:
            raise MemoryError("a rank had too little memory for the answers of a step") from failure
        self._step = _Step(max(0.0, total / count), good, bad)

    def __call__(self, model: Decoder, batch: Batch) -> Loss:
        before_S = next(found for known, found in self._before if known is batch)
        own = _Places.of(batch, is_own=True).batch(batch)
        policy_S, good_S = pairs_of(model, own, is_mean=False).chosen, good_of(own)
        found, step = kto(policy_S, before_S, good_S, divergence=self._step.divergence, **self._numbers), self._step
        terms, given = step.good + step.bad, found.measures
        measures = {
            "reward_good": given["reward_good"] * terms / max(1.0, step.good),
            "reward_bad": given["reward_bad"] * terms / max(1.0, step.bad),
            "divergence": policy_S.new_tensor(step.divergence * found.num_terms),
        }
        return found._replace(measures=measures, tokens=own.num_targets)


def good_of(batch: Batch) -> Tensor:
    """[S] of every answer, in the order of `pairs_of`, whether it is good."""
    trees = (
        batch.documents + (batch.documents.max() + 1) * torch.arange(len(batch.ids), device=batch.ids.device)[:, None]
    )
    is_learned = batch.targets != IGNORE
    numbers, own = torch.unique(trees[is_learned], return_inverse=True)
    found = torch.zeros(len(numbers), dtype=torch.bool, device=batch.ids.device)
    found[own] = batch.branches[is_learned] < FIRST_OF_BAD
    return found


class _Places(NamedTuple):
    """The places of some trees' trunks and of one kind of their answers, in rows that are shorter; [B,T'] each.

    Attributes:
        order: where each place was.
        inside: whether it is one at all.
    """

    order: Tensor
    inside: Tensor

    @classmethod
    def of(cls, batch: Batch, *, is_own: bool) -> "_Places":
        """Those of the own answers, or of the others."""
        is_kept = (batch.documents > 0) & ((batch.branches == 0) | ((batch.branches % 2 == 1) == is_own))
        width = -(-int(is_kept.sum(1).max()) // WIDTHS) * WIDTHS
        order = (~is_kept).int().argsort(dim=1, stable=True)[:, :width]
        return cls(order, is_kept.gather(1, order))

    def taken(self, values: Tensor) -> Tensor:
        """Of [B,T,...] what stands there."""
        return values[torch.arange(len(values), device=values.device)[:, None], self.order]

    def batch(self, batch: Batch) -> Batch:
        """The rows that are left."""
        return batch._replace(
            ids=self.taken(batch.ids),
            targets=self.taken(batch.targets).where(self.inside, IGNORE),
            positions=self.taken(batch.positions).where(self.inside, 0),
            documents=self.taken(batch.documents).where(self.inside, 0),
            branches=self.taken(batch.branches).where(self.inside, 0),
        )
