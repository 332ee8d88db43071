"""Losses of pairs, beside the formulas of their papers as they stand there."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.train.objectives.conftest import Answers, assert_same, log_probs_of, plain_log_probs
from torch import Tensor

from rhapsode.model.decoder import Decoder
from rhapsode.train.objectives.loss import Loss
from rhapsode.train.objectives.preference import Pairs, dpo, ipo, orpo, simpo
from rhapsode.train.objectives.sequences import sequence_means, sequence_sums

LOSSES: dict[str, Callable[[Pairs, Pairs], Loss]] = {
    "dpo": lambda policy, reference: dpo(policy, reference, beta=0.3, label_smoothing=0.0),
    "cdpo": lambda policy, reference: dpo(policy, reference, beta=0.3, label_smoothing=0.2),
    "ipo": lambda policy, reference: ipo(policy, reference, beta=0.3),
    "orpo": lambda policy, _: orpo(policy, weight=0.4),
    "simpo": lambda policy, _: simpo(policy, beta=2.0, margin=1.2, label_smoothing=0.0),
}


def sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + torch.exp(-x))


def papers(name: str, w: Tensor, l: Tensor, ref_w: Tensor, ref_l: Tensor) -> Tensor:  # noqa: E741
    """One pair: the log-probabilities of the tokens of the winning and of the losing answer."""
    match name:
        case "dpo":  # equation 7
            return -torch.log(sigmoid(0.3 * (w.sum() - ref_w.sum()) - 0.3 * (l.sum() - ref_l.sum())))
        case "cdpo":
            h = 0.3 * (w.sum() - ref_w.sum()) - 0.3 * (l.sum() - ref_l.sum())
            return -0.8 * torch.log(sigmoid(h)) - 0.2 * torch.log(1 - sigmoid(h))
        case "ipo":  # equation 17, with means
            return ((w.mean() - l.mean()) - (ref_w.mean() - ref_l.mean()) - 1 / (2 * 0.3)) ** 2
        case "orpo":  # equations 3 to 7
            p, q = torch.exp(w.mean()), torch.exp(l.mean())
            return -w.mean() - 0.4 * torch.log(sigmoid(torch.log((p / (1 - p)) / (q / (1 - q)))))
        case "simpo":  # equation 6
            return -torch.log(sigmoid(2.0 / len(w) * w.sum() - 2.0 / len(l) * l.sum() - 1.2))
    raise AssertionError(name)


def pairs_of(model: Decoder, answers: Answers, *, name: str) -> Pairs:
    """Answers 0, 2, 4 are better than 1, 3, 5."""
    summed = sequence_sums if "dpo" in name else sequence_means
    whole = summed(log_probs_of(model, answers), answers.sequences, answers.count)
    return Pairs(whole[0::2], whole[1::2])


@pytest.mark.parametrize("name", LOSSES)
def test_value_and_gradient_of_every_weight_are_the_papers(
    name: str, policy: Decoder, reference: Decoder, answers: Answers
) -> None:
    with torch.no_grad():
        start, starts = pairs_of(reference, answers, name=name), plain_log_probs(reference, answers)
    found = LOSSES[name](pairs_of(policy, answers, name=name), start)
    tokens = plain_log_probs(policy, answers)
    expected = sum(papers(name, tokens[i], tokens[i + 1], starts[i], starts[i + 1]) for i in (0, 2, 4))
    assert found.num_terms == 3
    assert_same(found.total, expected, policy)


floats = st.floats(-30, -1e-3)
rows = st.lists(st.tuples(floats, floats, floats, floats), min_size=1, max_size=6)


@pytest.mark.parametrize("name", LOSSES)
@given(rows=rows, cut=st.integers(0, 6))
def test_parts_add_up(name: str, rows: list[tuple[float, ...]], cut: int) -> None:
    w, l, ref_w, ref_l = torch.tensor(rows, dtype=torch.float64).T  # noqa: E741
    w.requires_grad_()

    def loss(part: slice) -> Loss:
        return LOSSES[name](Pairs(w[part], l[part]), Pairs(ref_w[part], ref_l[part]))

    whole, parts = loss(slice(None)), [loss(slice(cut)), loss(slice(cut, None))]
    torch.testing.assert_close(whole.total, parts[0].total + parts[1].total)
    assert whole.num_terms == parts[0].num_terms + parts[1].num_terms == len(rows)
    for key, value in whole.measures.items():
        torch.testing.assert_close(value, parts[0].measures[key] + parts[1].measures[key])
        assert not value.requires_grad
    grads = [torch.autograd.grad(x, w)[0] for x in (whole.total, parts[0].total + parts[1].total)]
    torch.testing.assert_close(*grads)


@pytest.mark.parametrize("name", LOSSES)
def test_equal_answers_are_worth_what_indifference_is(name: str) -> None:
    same = torch.tensor([-3.0, -0.5], dtype=torch.float64)
    loss = LOSSES[name](Pairs(same, same), Pairs(same - 1, same - 1))
    indifference = {
        "dpo": math.log(2),
        "cdpo": math.log(2),
        "ipo": (1 / 0.6) ** 2,
        "orpo": 1.75 + 0.4 * math.log(2),
        "simpo": math.log(1 + math.exp(1.2)),
    }
    assert loss.total.item() == pytest.approx(2 * indifference[name])
    assert loss.measures["right"] == 0


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_certain_and_hopeless_answers_stay_finite(name: str, dtype: torch.dtype) -> None:
    log_probs = torch.tensor([0.0, -1e-9, -1e4, 0.0], dtype=dtype, requires_grad=True)
    against = torch.tensor([-1e4, 0.0, -1e-9, 0.0], dtype=dtype, requires_grad=True)
    loss = LOSSES[name](Pairs(log_probs, against), Pairs(torch.zeros(4, dtype=dtype), torch.zeros(4, dtype=dtype)))
    grads = torch.autograd.grad(loss.total, (log_probs, against))
    assert all(x.isfinite().all() for x in (loss.total, *grads))


@pytest.mark.parametrize("name", LOSSES)
def test_no_pair_is_worth_nothing(name: str) -> None:
    nothing = torch.zeros(0, dtype=torch.float64, requires_grad=True)
    loss = LOSSES[name](Pairs(nothing, nothing), Pairs(nothing, nothing))
    loss.total.backward()
    assert (loss.total.item(), loss.num_terms) == (0, 0)


@pytest.mark.parametrize("name", LOSSES)
def test_going_down_the_gradient_prefers_the_better_answer(name: str) -> None:
    pairs = Pairs(*(torch.tensor([-2.0], dtype=torch.float64, requires_grad=True) for _ in range(2)))
    better, worse = torch.autograd.grad(LOSSES[name](pairs, Pairs(*(x.detach() for x in pairs))).total, pairs)
    assert better < 0 < worse
