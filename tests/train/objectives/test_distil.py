"""Distillation on a tiny model, and in parts."""

import pytest
import torch
import torch.nn.functional as F
from tests.conftest import make_decoder, make_spec
from tests.train.objectives.conftest import Answers, assert_same, hidden_of

from rhapsode.kernels.cross_entropy import IGNORE
from rhapsode.kernels.divergence import divergence_plain
from rhapsode.kernels.scores import Projection
from rhapsode.model.decoder import Decoder
from rhapsode.train.objectives.distil import distil


def projection(model: Decoder, answers: Answers) -> Projection:
    return Projection(hidden_of(model, answers), model.head.weight, model.spec.logit_softcap)


@pytest.fixture(scope="module")
def teacher() -> Decoder:
    """Wider than the student."""
    return make_decoder(make_spec(width=40, ffn=64), seed=5, dtype=torch.float64)


@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("next_token", [0.0, 0.25])
def test_value_and_gradient_of_every_weight(
    beta: float, next_token: float, policy: Decoder, teacher: Decoder, answers: Answers
) -> None:
    kept = answers.targets != IGNORE
    with torch.no_grad():
        of_teacher = projection(teacher, answers)
        wanted = F.linear(of_teacher.hidden, of_teacher.weight)[kept]
    found = distil(
        projection(policy, answers), of_teacher, answers.targets, beta=beta, temperature=2.0, next_token=next_token
    )
    scores = F.linear(hidden_of(policy, answers), policy.head.weight)[kept]
    soft = divergence_plain(scores / 2, wanted / 2, beta=beta).sum()
    hard = F.cross_entropy(scores, answers.targets[kept], reduction="sum")
    assert found.num_terms == int(kept.sum())
    assert found.measures["divergence"].item() == pytest.approx(soft.item())
    assert_same(found.total, (1 - next_token) * soft + next_token * hard, policy)


def test_rows_add_up(policy: Decoder, teacher: Decoder, answers: Answers) -> None:
    with torch.no_grad():
        of_both = [projection(model, answers) for model in (policy, teacher)]

    def loss(rows: slice) -> torch.Tensor:
        parts = (x._replace(hidden=x.hidden[rows]) for x in of_both)
        return distil(*parts, answers.targets[rows], beta=0.5, temperature=1.0, next_token=0.1).total

    torch.testing.assert_close(loss(slice(None)), loss(slice(1)) + loss(slice(1, None)))


def test_a_student_of_itself_has_nothing_to_learn(policy: Decoder, answers: Answers) -> None:
    itself = projection(policy, answers)
    for beta in (0.0, 0.5, 1.0):
        loss = distil(itself, itself, answers.targets, beta=beta, temperature=1.0, next_token=0.0)
        assert abs(loss.total.item()) < 1e-9


@pytest.mark.parametrize("next_token", [0.0, 0.25])
def test_rows_that_only_one_has_are_padding(next_token: float, policy: Decoder, answers: Answers) -> None:
    """As in families whose larger models have a rounder number of rows."""
    padded = make_decoder(make_spec(vocab_size=104), dtype=torch.float64)
    with torch.no_grad():
        its = projection(padded, answers)
    known = its._replace(weight=its.weight[:96])

    def loss(student: Projection, teacher: Projection, share: float = next_token) -> torch.Tensor:
        return distil(student, teacher, answers.targets, beta=0.5, temperature=1.0, next_token=share).total

    assert_same(loss(projection(policy, answers), its), loss(projection(policy, answers), known), policy)
    student, taught = projection(padded, answers), projection(policy, answers)
    taught = Projection(taught.hidden.detach(), taught.weight)
    found = loss(projection(padded, answers), taught)
    soft = loss(student._replace(weight=student.weight[:96]), taught, 0.0)
    scores = F.linear(student.hidden, student.weight).flatten(0, 1)
    hard = F.cross_entropy(scores, answers.targets.flatten(), reduction="sum")
    assert_same(found, (1 - next_token) * soft + next_token * hard, padded)
