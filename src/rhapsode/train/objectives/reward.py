"""A model that gives an answer a number: reward modelling from pairs (Bradley and Terry 1952; Ouyang et al. 2022).

The loss is summed over pairs. Shapes: P pairs.
"""

import torch.nn.functional as F
from torch import Tensor

from rhapsode.train.objectives.loss import Loss
from rhapsode.train.objectives.preference import Pairs


def bradley_terry(rewards: Pairs, *, margin_P: Tensor | None = None, centre: float) -> Loss:
    """The better answer is to have the higher reward.

    Args:
        margin_P: by how much, where annotators said how sure they were (Touvron et al. 2023, arXiv:2307.09288).
        centre: how much the square of a pair's summed rewards costs, which keeps them around 0 (Eisenstein et al. 2023,
            arXiv:2312.09244).
    """
    gaps_P = rewards.chosen - rewards.rejected
    losses_P = -F.logsigmoid(gaps_P if margin_P is None else gaps_P - margin_P)
    if centre:
        losses_P = losses_P + centre * (rewards.chosen + rewards.rejected).square()
    chosen, rejected = rewards.chosen.detach(), rewards.rejected.detach()
    measures = {"reward_chosen": chosen.sum(), "reward_rejected": rejected.sum(), "right": (chosen > rejected).sum()}
    return Loss(losses_P.sum(), len(losses_P), measures)
