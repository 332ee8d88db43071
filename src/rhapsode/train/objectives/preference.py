"""Preferences: of two answers to a prompt, one is better.

- DPO (Rafailov et al. 2023, arXiv:2305.18290) raises the better one's log-probability over the worse one's, relative to
  the model that training started from; with label smoothing (Mitchell 2023, cDPO) a share of the pairs is taken to be
  the wrong way round.
- IPO (Azar et al. 2023, arXiv:2310.12036) gives that difference a goal instead, so that certain pairs do not push on.
- ORPO (Hong et al. 2024, arXiv:2403.07691) needs no reference: the better answer is learnt as in tuning on
  instructions, and its odds against the worse one's beside it.
- SimPO (Meng et al. 2024, arXiv:2405.14734) needs none either: means over tokens, and a margin to win by.

Each loss is summed over pairs. Shapes: P pairs.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from rhapsode.train.objectives.loss import Loss


class Pairs(NamedTuple):
    """[P] each: a number of the better answer, such as its log-probability, and that of the worse one."""

    chosen: Tensor
    rejected: Tensor


def dpo(policy: Pairs, reference: Pairs, *, beta: float, label_smoothing: float) -> Loss:
    """From log-probabilities of whole answers.

    Args:
        beta: how dear it is to leave the reference; a usual one is 0.1.
        label_smoothing: the share of pairs taken to be the wrong way round, below 0.5.
    """
    rewards = _rewards(policy, reference, beta=beta)
    losses_P = _logistic(rewards.chosen - rewards.rejected, label_smoothing=label_smoothing)
    return _summed(losses_P, rewards)


def ipo(policy: Pairs, reference: Pairs, *, beta: float) -> Loss:
    """From mean log-probabilities: the paper writes sums, and its authors advised TRL to take means over tokens.

    Args:
        beta: the paper's tau; the goal of the difference is 1 / (2 beta).
    """
    rewards = _rewards(policy, reference, beta=1)
    losses_P = (rewards.chosen - rewards.rejected - 1 / (2 * beta)).square()
    return _summed(losses_P, _rewards(policy, reference, beta=beta))


def orpo(policy: Pairs, *, weight: float) -> Loss:
    """From mean log-probabilities: the next-token loss of the better answer, and `weight` times that of the odds."""
    log_odds_P = _log_odds(policy.chosen) - _log_odds(policy.rejected)
    losses_P = -policy.chosen - weight * F.logsigmoid(log_odds_P)
    return _summed(losses_P, Pairs(weight * policy.chosen, weight * policy.rejected))


def simpo(policy: Pairs, *, beta: float, margin: float, label_smoothing: float) -> Loss:
    """From mean log-probabilities.

    Args:
        beta: what they are multiplied with; the paper's are 2 to 10.
        margin: by how much the better answer's product is to win (the paper's gamma).
    """
    rewards = Pairs(beta * policy.chosen, beta * policy.rejected)
    losses_P = _logistic(rewards.chosen - rewards.rejected - margin, label_smoothing=label_smoothing)
    return _summed(losses_P, rewards)


def _rewards(policy: Pairs, reference: Pairs, *, beta: float) -> Pairs:
    """What the policy implies that answers are worth: beta times their log-ratios."""
    return Pairs(*(beta * (of_policy - start) for of_policy, start in zip(policy, reference, strict=True)))


def _logistic(margin_P: Tensor, *, label_smoothing: float) -> Tensor:
    right, wrong = F.logsigmoid(margin_P), F.logsigmoid(-margin_P)
    return -(1 - label_smoothing) * right - label_smoothing * wrong


def _log_odds(log_p: Tensor) -> Tensor:
    """ln(p / (1 - p)); where rounding has made an answer certain, those of the nearest number below 1."""
    below = log_p.clamp(max=-torch.finfo(log_p.dtype).eps)
    return log_p - torch.log(-torch.expm1(below))


def _summed(losses_P: Tensor, rewards: Pairs) -> Loss:
    chosen, rejected = rewards.chosen.detach(), rewards.rejected.detach()
    measures = {"reward_chosen": chosen.sum(), "reward_rejected": rejected.sum(), "right": (chosen > rejected).sum()}
    return Loss(losses_P.sum(), len(losses_P), measures)
