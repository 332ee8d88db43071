"""The loss of single answers, beside the paper's formula as it stands there."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.train.objectives.conftest import Answers, assert_same, log_probs_of, plain_log_probs
from torch import Tensor

from rhapsode.model.decoder import Decoder
from rhapsode.train.objectives.kto import divergence_sum, kto
from rhapsode.train.objectives.loss import Loss
from rhapsode.train.objectives.sequences import sequence_sums

BETA, GOOD, BAD = 0.2, 1.0, 1.33


def loss_of(policy_S: Tensor, reference_S: Tensor, good_S: Tensor, *, divergence: float = 0.4) -> Loss:
    return kto(policy_S, reference_S, good_S, divergence=divergence, beta=BETA, good_weight=GOOD, bad_weight=BAD)


def test_value_and_gradient_of_every_weight_are_the_papers(
    policy: Decoder, reference: Decoder, answers: Answers
) -> None:
    good = torch.tensor([True, False, False, True, False, True])
    with torch.no_grad():
        start = sequence_sums(log_probs_of(reference, answers), answers.sequences, answers.count)
        starts = [x.sum() for x in plain_log_probs(reference, answers)]
    whole = sequence_sums(log_probs_of(policy, answers), answers.sequences, answers.count)
    found = loss_of(whole, start, good)
    expected = torch.zeros((), dtype=torch.float64)
    for answer, ref, is_good in zip(plain_log_probs(policy, answers), starts, good.tolist(), strict=True):
        r = answer.sum() - ref  # equation 8, with z0 in units of the log-ratio
        v = GOOD / (1 + torch.exp(-BETA * (r - 0.4))) if is_good else BAD / (1 + torch.exp(-BETA * (0.4 - r)))
        expected = expected + (GOOD if is_good else BAD) - v
    assert found.num_terms == 6
    assert_same(found.total, expected, policy)


floats = st.floats(-50, 0)
rows = st.lists(st.tuples(floats, floats, st.booleans()), max_size=6)


@given(rows=rows, cut=st.integers(0, 6))
def test_parts_add_up(rows: list[tuple[float, float, bool]], cut: int) -> None:
    policy_S, reference_S = (torch.tensor([row[i] for row in rows], dtype=torch.float64) for i in range(2))
    good_S = torch.tensor([row[2] for row in rows], dtype=torch.bool)

    def losses(part: slice) -> list[Loss]:
        parts = policy_S[part], reference_S[part]
        return [loss_of(*parts, good_S[part]), divergence_sum(*parts)]

    for whole, *parts in zip(losses(slice(None)), losses(slice(cut)), losses(slice(cut, None)), strict=True):
        torch.testing.assert_close(whole.total, parts[0].total + parts[1].total)
        assert whole.num_terms == parts[0].num_terms + parts[1].num_terms == len(rows)
        for key, value in whole.measures.items():
            torch.testing.assert_close(value, parts[0].measures[key] + parts[1].measures[key])


def test_only_good_or_only_bad_answers() -> None:
    log_probs = torch.tensor([-3.0, -9.0], dtype=torch.float64, requires_grad=True)
    for is_good in (True, False):
        loss = loss_of(log_probs, log_probs.detach(), torch.tensor([is_good] * 2), divergence=0.0)
        assert loss.total.item() == pytest.approx(2 * (GOOD if is_good else BAD) / 2)
        (grad,) = torch.autograd.grad(loss.total, log_probs)
        assert ((grad < 0) == is_good).all()


def test_answers_far_from_the_reference_stay_finite() -> None:
    log_probs = torch.tensor([-1e5, 0.0, -1e5, 0.0], requires_grad=True)
    start = torch.tensor([0.0, -1e5, 0.0, -1e5])
    loss = loss_of(log_probs, start, torch.tensor([True, True, False, False]))
    loss.total.backward()
    assert loss.total.isfinite()
    assert log_probs.grad.isfinite().all()
