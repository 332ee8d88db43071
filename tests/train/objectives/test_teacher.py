"""A teacher that reads along: however the rows of a step are split, the gradient is that of the plain formula."""

from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import make_decoder, make_spec
from tests.train.test_step import cut, random_batch
from torch import Tensor

from rhapsode.kernels.cross_entropy import IGNORE
from rhapsode.kernels.divergence import divergence_plain
from rhapsode.model.adapter import adapt
from rhapsode.model.adapter_spec import AdapterSpec
from rhapsode.model.decoder import Decoder
from rhapsode.train.masters import WholeMasters
from rhapsode.train.objective import Batch, hidden_states
from rhapsode.train.objectives.teacher import Distillation
from rhapsode.train.step import gradient

NUMBERS = {"beta": 0.3, "temperature": 1.5, "next_token": 0.2}
TEACHER = make_decoder(make_spec(width=40, ffn=64), seed=5, dtype=torch.float64).requires_grad_(requires_grad=False)


def plainly(model: Decoder, batch: Batch, *, beta: float, temperature: float, next_token: float) -> Tensor:
    """Every score of both, then those that count."""
    with torch.no_grad():
        wanted = F.linear(hidden_states(TEACHER, batch), TEACHER.head.weight)
    scores, kept = F.linear(hidden_states(model, batch), model.head.weight), batch.targets != IGNORE
    soft = divergence_plain(scores[kept] / temperature, wanted[kept] / temperature, beta=beta).sum()
    hard = F.cross_entropy(scores[kept], batch.targets[kept], reduction="sum")
    return (1 - next_token) * soft + next_token * hard


def gradient_of(model: Decoder, parts: Sequence[Batch]) -> tuple[list[Tensor], float]:
    masters = WholeMasters(model)
    found = gradient(model, parts, objective=Distillation(NUMBERS, teacher=TEACHER), masters=masters)
    assert found.terms == found.tokens == sum(part.num_targets for part in parts)
    return masters.grads, found.loss


@settings(deadline=None, max_examples=15)
@given(rows=st.integers(1, 5), borders=st.lists(st.integers(0, 5), max_size=4), seed=st.integers(0, 999))
def test_any_split_of_a_step_gives_the_gradient_of_the_formula(rows: int, borders: list[int], seed: int) -> None:
    model, batch = make_decoder(make_spec(), dtype=torch.float64), random_batch(rows, 12, seed=seed)
    total = plainly(model, batch, **NUMBERS)
    expected = torch.autograd.grad(total, list(model.parameters()))
    found, loss = gradient_of(model, cut(batch, borders))
    assert loss == pytest.approx(float(total.detach()), rel=1e-10)
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-10)


def test_an_adapter_alone_learns_from_it() -> None:
    model, batch = make_decoder(make_spec(), dtype=torch.float64), random_batch(3, 12, seed=1)
    adapt(model, AdapterSpec(rank=4, alpha=8), seed=0)
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.add_(0.1 * name.endswith(".B"))
    trained = [value for value in model.parameters() if value.requires_grad]
    expected = torch.autograd.grad(plainly(model, batch, **NUMBERS), trained)
    found, _ = gradient_of(model, batch.split(2))
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-10)


def test_the_teacher_gets_no_gradient_and_the_measures_are_of_its_loss() -> None:
    model, batch = make_decoder(make_spec(), dtype=torch.float64), random_batch(2, 8, seed=2)
    for share in (0.0, 0.2):
        objective = Distillation(NUMBERS | {"next_token": share}, teacher=TEACHER)
        loss = objective(model, batch)
        loss.total.backward()
        parts = [float(loss.measures[name]) for name in objective.measures]
        assert float(loss.total.detach()) == pytest.approx((1 - share) * parts[0] + share * (parts[-1] if share else 0))
    assert all(value.grad is None for value in TEACHER.parameters())
