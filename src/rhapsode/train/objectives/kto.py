"""Feedback: an answer is good or bad, by itself (Ethayarajh et al. 2024, KTO, arXiv:2402.01306).

An answer's reward is its log-ratio to the reference times beta, and what it is worth is a sigmoid of how far that lies
above or below what is to be expected: beta times the divergence between policy and reference. That one number belongs
to a whole step and carries no gradient: it is estimated first, from answers paired with prompts of others.

Each loss is summed over answers. Shapes: S answers.
"""

import torch
from torch import Tensor

from rhapsode.train.objectives.loss import Loss


def divergence_sum(policy_S: Tensor, reference_S: Tensor) -> Loss:
    """Log-ratios of answers to prompts that are not theirs, summed; their mean over a step, or 0, is `divergence`."""
    return Loss((policy_S - reference_S).detach().sum(), len(policy_S), {})


def kto(
    policy_S: Tensor,
    reference_S: Tensor,
    good_S: Tensor,
    *,
    divergence: float,
    beta: float,
    good_weight: float,
    bad_weight: float,
) -> Loss:
    """From log-probabilities of whole answers.

    Args:
        good_S: bool.
        divergence: what `divergence_sum` gave for the whole step, its mean, and 0 if that is below 0.
        good_weight, bad_weight: of the losses; the paper balances the two kinds by number up to 4 : 3.
    """
    ratios_S = policy_S - reference_S
    gains_S = beta * torch.where(good_S, ratios_S - divergence, divergence - ratios_S)
    weights_S = gains_S.new_tensor((bad_weight, good_weight))[good_S.long()]
    losses_S = weights_S * torch.sigmoid(-gains_S)  # 1 - sigmoid(x), without its cancellation
    rewards_S = beta * ratios_S.detach()
    measures = {
        "reward_good": rewards_S[good_S].sum(),
        "good": good_S.sum(),
        "reward_bad": rewards_S[~good_S].sum(),
        "bad": (~good_S).sum(),
    }
    return Loss(losses_S.sum(), len(losses_S), measures)
