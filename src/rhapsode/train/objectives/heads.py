"""Objectives of models that do not write: labels and rewards, of which each sequence has one target at its last token.

Shapes: S sequences, L labels, P pairs.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from rhapsode.kernels.cross_entropy import IGNORE
from rhapsode.model.decoder import Decoder
from rhapsode.model.pooling import pooled
from rhapsode.train.objective import Batch, hidden_states
from rhapsode.train.objectives.loss import Loss
from rhapsode.train.objectives.preference import Pairs
from rhapsode.train.objectives.reward import bradley_terry


class Classify:
    """Cross-entropy of the labels; a term is a sequence."""

    __name__ = "classify"
    measures: tuple[str, ...] = ("right",)

    def begin(self, model: Decoder, step: Sequence[Batch]) -> None:
        pass

    def __call__(self, model: Decoder, batch: Batch) -> Loss:
        scores_SL, labels_S = label_scores(model, batch), batch.targets[batch.targets != IGNORE]
        right = (scores_SL.detach().argmax(-1) == labels_S).sum()
        return Loss(F.cross_entropy(scores_SL, labels_S, reduction="sum"), len(labels_S), {"right": right})


class Reward:
    """Bradley and Terry's likelihood that the chosen answer is preferred; a term is a pair."""

    __name__ = "reward"
    measures: tuple[str, ...] = ("reward_chosen", "reward_rejected", "right")

    def __init__(self, *, centre: float) -> None:
        self._centre = centre

    def begin(self, model: Decoder, step: Sequence[Batch]) -> None:
        pass

    def __call__(self, model: Decoder, batch: Batch) -> Loss:
        rewards_S = label_scores(model, batch).squeeze(1)
        pairs = Pairs(rewards_S[0::2], rewards_S[1::2])  # a tree's branches stand one behind the other
        return bradley_terry(pairs, centre=self._centre)._replace(tokens=len(rewards_S))


def label_scores(model: Decoder, batch: Batch) -> Tensor:
    """[S,L] in float32 (float64 stays), in the order of the rows."""
    states_SD = sequence_states(model, batch)
    return F.linear(states_SD, model.head.weight.to(states_SD.dtype))


def sequence_states(model: Decoder, batch: Batch) -> Tensor:
    """[S,D]: one state of each sequence in the batch, as the model's head pools its tokens'."""
    assert model.spec.head is not None, "the model does not write"
    ends_S = (batch.targets.flatten() != IGNORE).nonzero().squeeze(1)
    hidden_BTD, pooling = hidden_states(model, batch), model.spec.head.pooling
    states: Tensor = pooled(hidden_BTD, batch.documents, batch.branches, ends_S=ends_S, pooling=pooling)
    return states
