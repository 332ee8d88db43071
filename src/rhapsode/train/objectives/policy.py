"""Policy training without a critic: a prompt's answers are judged against each other.

GRPO (Shao et al. 2024, arXiv:2402.03300): the advantage of an answer is its reward, less the mean of its group, over
the group's spread. Its tokens become likelier or less likely, as long as they are not yet far from the policy that
sampled them (PPO's clipped ratio, Schulman et al. 2017, arXiv:1707.06347), at a price for leaving a reference (the k3
estimator of the divergence, Schulman 2020). Dr. GRPO (Liu et al. 2025, arXiv:2503.20783) shows that dividing by the
spread favours easy and hopeless prompts, and that dividing by an answer's length favours long wrong answers: it does
neither. DAPO (Yu et al. 2025, arXiv:2503.14476) counts tokens, and clips higher above than below.

Shapes: N tokens, S answers.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from rhapsode.train.objectives.loss import Loss
from rhapsode.train.objectives.sequences import sequence_lengths, sequence_sums

MOST_LOG_RATIO = 80.0
"""Where e^x ends in float32: beyond it a ratio of probabilities is as good as infinite, and 0 times that no number."""
SPREAD_FLOOR = 1e-4
"""Added to a group's spread, as everywhere: equal rewards are no advantage."""

Spread = Literal["group", "batch", "none"]
Per = Literal["answer", "token"] | int


class Clip(NamedTuple):
    """The ratio to the sampling policy counts between 1 - `below` and 1 + `above`."""

    below: float
    above: float


def group_advantages(rewards_S: Tensor, group_S: Tensor, *, spread: Spread) -> Tensor:
    """[S]: rewards less the mean of their group, over a spread; an answer alone in its group has none.

    Args:
        rewards_S: of every answer of the step, on all ranks: a group is never split here.
        group_S: int64, which prompt an answer belongs to, from 0 on.
        spread: the standard deviation (of a sample) of what is divided by: the answer's group, all answers, or 1.
    """
    sizes = torch.bincount(group_S).clamp(min=1)
    means = rewards_S.new_zeros(len(sizes)).index_add(0, group_S, rewards_S) / sizes
    gaps_S = rewards_S - means[group_S]
    match spread:
        case "none":
            return gaps_S
        case "batch":
            return gaps_S / (rewards_S.std() + SPREAD_FLOOR) if len(rewards_S) > 1 else gaps_S
        case "group":
            squares = rewards_S.new_zeros(len(sizes)).index_add(0, group_S, gaps_S.square())
            deviations = (squares / (sizes - 1).clamp(min=1)).sqrt()
            return gaps_S / (deviations[group_S] + SPREAD_FLOOR)


def divergence_k3(policy_N: Tensor, reference_N: Tensor) -> Tensor:
    """[N]: an estimate of KL(policy|reference) from tokens of the policy that is never negative."""
    ratio = (reference_N - policy_N).clamp(max=MOST_LOG_RATIO)
    return torch.expm1(ratio) - ratio


def policy_gradient(
    policy_N: Tensor,
    advantages_S: Tensor,
    sequence_N: Tensor,
    *,
    sampled_N: Tensor | None = None,
    reference_N: Tensor | None = None,
    clip: Clip,
    divergence_cost: float,
    per: Per,
) -> Loss:
    """From log-probabilities of an answer's tokens, at the temperature at which they were sampled.

    Args:
        advantages_S: of each answer.
        sequence_N: which answer a token belongs to (see `sequences.py`).
        sampled_N: as they were when the tokens were sampled; None: by this very policy.
        reference_N: those of the reference, where the divergence from it has a cost.
        per: "answer": the mean over an answer's tokens, summed over answers (GRPO); "token": summed over tokens (DAPO);
            a number of tokens, the most that an answer may have: an answer's sum over that, summed over answers
            (Dr. GRPO). An answer without a token counts, with nothing.
    """
    kept = sequence_N >= 0
    policy_N, sequence_N = policy_N[kept], sequence_N[kept]
    sampled_N = policy_N.detach() if sampled_N is None else sampled_N[kept].detach()
    advantages_N = advantages_S.detach()[sequence_N]
    ratios_N = torch.exp((policy_N - sampled_N).clamp(max=MOST_LOG_RATIO))
    clipped_N = ratios_N.clamp(1 - clip.below, 1 + clip.above)
    losses_N = -torch.minimum(ratios_N * advantages_N, clipped_N * advantages_N)
    is_clipped = ((clipped_N - ratios_N) * advantages_N).detach() < 0
    measures = {"tokens": kept.sum(), "clipped": is_clipped.sum(), "advantage": advantages_S.detach().sum()}
    if reference_N is not None:
        divergence_N = divergence_k3(policy_N, reference_N[kept].detach())
        losses_N = losses_N + divergence_cost * divergence_N
        measures["divergence"] = divergence_N.detach().sum()
    total, count = _weighed(losses_N, sequence_N, len(advantages_S), per=per)
    return Loss(total, count, measures)


def _weighed(losses_N: Tensor, sequence_N: Tensor, count: int, *, per: Per) -> tuple[Tensor, int]:
    if per == "token":
        return losses_N.sum(), len(losses_N)
    sums_S = sequence_sums(losses_N, sequence_N, count)
    lengths_S: Tensor | int = sequence_lengths(sequence_N, count).clamp(min=1) if per == "answer" else per
    return (sums_S / lengths_S).sum(), count
