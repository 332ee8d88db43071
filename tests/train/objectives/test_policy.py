"""Advantages and the clipped policy gradient, beside the papers' formulas as they stand there."""

import statistics

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.train.objectives.conftest import Answers, assert_same, log_probs_of, plain_log_probs

from rhapsode.model.decoder import Decoder
from rhapsode.train.objectives.loss import Loss
from rhapsode.train.objectives.policy import Clip, Per, divergence_k3, group_advantages, policy_gradient
from rhapsode.train.objectives.sequences import NONE

CLIP = Clip(0.2, 0.28)
COST = 0.04


@pytest.mark.parametrize("spread", ["group", "batch", "none"])
def test_advantages_are_what_rewards_have_above_their_group(spread: str) -> None:
    rewards = [1.0, 0.0, 0.5, 1.0, 2.0, -1.0, 7.0]
    groups = [0, 1, 0, 1, 0, 1, 3]
    found = group_advantages(torch.tensor(rewards, dtype=torch.float64), torch.tensor(groups), spread=spread)
    for advantage, reward, group in zip(found.tolist(), rewards, groups, strict=True):
        among = [r for r, g in zip(rewards, groups, strict=True) if g == group]
        gap = reward - statistics.mean(among)
        over = {
            "group": statistics.stdev(among) + 1e-4 if len(among) > 1 else 1,
            "batch": statistics.stdev(rewards) + 1e-4,
            "none": 1,
        }
        assert advantage == pytest.approx(gap / over[spread], abs=1e-12)


@pytest.mark.parametrize("spread", ["group", "batch", "none"])
@pytest.mark.parametrize("rewards", [[1.0] * 4, [0.1] * 3, [5.0], []])
def test_equal_rewards_are_no_advantage(spread: str, rewards: list[float]) -> None:
    group = torch.zeros(len(rewards), dtype=torch.long)
    found = group_advantages(torch.tensor(rewards, dtype=torch.float64), group, spread=spread)
    assert found.abs().sum() < 1e-9
    assert len(found) == len(rewards)


@given(p=st.lists(st.floats(-20, 0), min_size=1), shift=st.floats(-5, 5))
def test_the_divergence_is_never_negative_and_nothing_for_equals(p: list[float], shift: float) -> None:
    log_probs = torch.tensor(p, dtype=torch.float64)
    assert (divergence_k3(log_probs, log_probs + shift) >= 0).all()
    assert not divergence_k3(log_probs, log_probs).any()


def test_the_estimate_of_the_divergence_is_not_biased() -> None:
    random = torch.Generator().manual_seed(0)
    p, q = (torch.randn(8, generator=random, dtype=torch.float64).log_softmax(0) for _ in range(2))
    mean = (p.exp() * divergence_k3(p, q)).sum()
    torch.testing.assert_close(mean, (p.exp() * (p - q)).sum())


@pytest.mark.parametrize("per", ["answer", "token", 20])
@pytest.mark.parametrize("has_reference", [True, False])
def test_value_and_gradient_of_every_weight_are_the_papers(
    per: Per, has_reference: bool, policy: Decoder, reference: Decoder, answers: Answers
) -> None:
    advantages = torch.tensor([1.0, -0.5, 0.3, -2.0, 0.0, 0.7], dtype=torch.float64)
    with torch.no_grad():
        start, starts = log_probs_of(reference, answers), plain_log_probs(reference, answers)
        noise = torch.randn(start.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 0.3
        now = log_probs_of(policy, answers)
        sampled = now + noise
        sampled_each = [sampled[answers.sequences == i] for i in range(answers.count)]
    found = policy_gradient(
        log_probs_of(policy, answers), advantages, answers.sequences, sampled_N=sampled,
        reference_N=start if has_reference else None, clip=CLIP, divergence_cost=COST, per=per,
    )  # fmt: skip
    total, clipped, tokens = torch.zeros((), dtype=torch.float64), 0, 0
    for new, old, ref, A in zip(plain_log_probs(policy, answers), sampled_each, starts, advantages, strict=True):
        r = torch.exp(new - old)
        each = torch.min(r * A, torch.clamp(r, 0.8, 1.28) * A)  # GRPO, equation 3
        if has_reference:
            each = each - COST * (torch.exp(ref - new) - (ref - new) - 1)  # equation 4
        total = total - {"answer": each.mean(), "token": each.sum(), 20: each.sum() / 20}[per]
        clipped += int((((r > 1.28) & (A > 0)) | ((r < 0.8) & (A < 0))).sum())
        tokens += len(new)
    assert found.num_terms == (tokens if per == "token" else 6)
    assert found.measures["tokens"] == tokens
    assert found.measures["clipped"] == clipped > 0
    assert_same(found.total, total, policy)


def loss_of(log_probs: torch.Tensor, advantages: list[float], sequence: list[int], *, per: Per) -> Loss:
    worth = torch.tensor(advantages, dtype=log_probs.dtype)
    return policy_gradient(log_probs, worth, torch.tensor(sequence), clip=CLIP, divergence_cost=0.0, per=per)


@pytest.mark.parametrize("per", ["answer", "token", 7])
@given(lengths=st.lists(st.integers(0, 4), min_size=1, max_size=5), cut=st.integers(0, 5), seed=st.integers(0, 99))
def test_parts_add_up(per: Per, lengths: list[int], cut: int, seed: int) -> None:
    """Answers without a token among them."""
    random = torch.Generator().manual_seed(seed)
    cut = min(cut, len(lengths))
    sampled, change, start = torch.randn(3, sum(lengths), generator=random, dtype=torch.float64)
    policy_N = (sampled + 0.2 * change).requires_grad_()
    advantages = torch.randn(len(lengths), generator=random, dtype=torch.float64)
    sequence = torch.tensor([i for i, n in enumerate(lengths) for _ in range(n)], dtype=torch.long)

    def loss(first: int, last: int) -> Loss:
        part = slice(sum(lengths[:first]), sum(lengths[:last]))
        return policy_gradient(
            policy_N[part], advantages[first:last], sequence[part] - first, sampled_N=sampled[part],
            reference_N=start[part], clip=CLIP, divergence_cost=COST, per=per,
        )  # fmt: skip

    whole, parts = loss(0, len(lengths)), [loss(0, cut), loss(cut, len(lengths))]
    torch.testing.assert_close(whole.total, parts[0].total + parts[1].total)
    assert whole.num_terms == parts[0].num_terms + parts[1].num_terms
    for key, value in whole.measures.items():
        torch.testing.assert_close(value, parts[0].measures[key] + parts[1].measures[key])
    grads = [torch.autograd.grad(x, policy_N)[0] for x in (whole.total, parts[0].total + parts[1].total)]
    torch.testing.assert_close(*grads)


def test_the_first_step_is_the_plain_policy_gradient() -> None:
    log_probs = torch.tensor([-1.0, -2.0, -3.0], dtype=torch.float64, requires_grad=True)
    loss = loss_of(log_probs, [2.0, -1.0], [0, 1, 1], per="token")
    (grad,) = torch.autograd.grad(loss.total, log_probs)
    assert grad.tolist() == [-2.0, 1.0, 1.0]


def test_prompts_and_padding_do_not_count() -> None:
    log_probs = torch.tensor([-1.0, 0.0, -2.0, 0.0], dtype=torch.float64, requires_grad=True)
    loss = loss_of(log_probs, [1.0], [0, NONE, 0, NONE], per="answer")
    (grad,) = torch.autograd.grad(loss.total, log_probs)
    assert grad.tolist() == [-0.5, 0.0, -0.5, 0.0]


@pytest.mark.parametrize("advantage", [1.0, -1.0, 0.0])
@pytest.mark.parametrize("distance", [1e3, -1e3])
def test_a_policy_far_from_where_it_sampled_stays_finite(advantage: float, distance: float) -> None:
    log_probs = torch.tensor([-1.0, -1.0], requires_grad=True)
    loss = policy_gradient(
        log_probs, torch.tensor([advantage]), torch.tensor([0, 0]), sampled_N=log_probs.detach() - distance,
        reference_N=log_probs.detach() + distance, clip=CLIP, divergence_cost=COST, per="answer",
    )  # fmt: skip
    loss.total.backward()
    assert loss.total.isfinite()
    assert log_probs.grad.isfinite().all()
