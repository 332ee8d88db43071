"""Distillation as an objective: a frozen teacher reads the rows of the student, and its distribution is learned."""

from collections.abc import Mapping, Sequence

import torch

from rhapsode.kernels.scores import Projection
from rhapsode.model.decoder import Decoder
from rhapsode.train.objective import Batch, hidden_states
from rhapsode.train.objectives.distil import distil
from rhapsode.train.objectives.loss import Loss


class Distillation:
    """How far the student's next token is from the teacher's, at every learned token; a term is a token."""

    def __init__(self, numbers: Mapping[str, float], *, teacher: Decoder) -> None:
        """`numbers` are those of `distil`; `teacher` is frozen and has the student's vocabulary."""
        self.__name__ = "distil"
        self.measures: tuple[str, ...] = ("divergence", "next_token") if numbers["next_token"] else ("divergence",)
        self._numbers, self._teacher = dict(numbers), teacher

    def begin(self, model: Decoder, step: Sequence[Batch]) -> None:
        pass

    def __call__(self, model: Decoder, batch: Batch) -> Loss:
        with torch.no_grad():  # first, so that what it needs on the way is gone when the student reads
            wanted = _said(self._teacher, batch)
        return distil(_said(model, batch), wanted, batch.targets, **self._numbers)


def _said(model: Decoder, batch: Batch) -> Projection:
    return Projection(hidden_states(model, batch), model.head.weight, model.spec.logit_softcap)
