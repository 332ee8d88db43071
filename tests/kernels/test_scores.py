"""What every operator on a vocabulary's scores promises."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rhapsode.kernels.cross_entropy import IGNORE, chunked_cross_entropy
from rhapsode.kernels.divergence import chunked_divergence
from rhapsode.kernels.log_probs import chunked_log_probs
from rhapsode.kernels.scores import ROUND, Projection

Operator = Callable[[Tensor, Tensor, int], Tensor]
PLACES, WIDTH, VOCABULARY = 200, 8, 16


def targets_of(count: int) -> Tensor:
    targets = torch.full((PLACES,), IGNORE)
    targets[:count] = 3
    return targets


def loss(hidden: Tensor, weight: Tensor, count: int) -> Tensor:
    return chunked_cross_entropy(hidden, weight, targets_of(count)).total


def log_probs(hidden: Tensor, weight: Tensor, count: int) -> Tensor:
    return chunked_log_probs(hidden, weight, targets_of(count)).sum()


def divergence(hidden: Tensor, weight: Tensor, count: int) -> Tensor:
    taught, teacher = Projection(hidden[:count], weight), Projection(hidden[:count] + 1, weight)
    return chunked_divergence(taught, teacher, beta=0.5).sum()


@pytest.mark.parametrize("operator", [loss, log_probs, divergence])
def test_however_many_targets_there_are_few_numbers_of_rows_are_multiplied(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, linear = set[int](), F.linear

    def seeing(rows: Tensor, weight: Tensor) -> Tensor:
        seen.add(len(rows))
        return linear(rows, weight)

    monkeypatch.setattr(F, "linear", seeing)
    weight = torch.randn(VOCABULARY, WIDTH)
    for count in range(1, PLACES):
        hidden = torch.randn(PLACES, WIDTH, requires_grad=True)
        operator(hidden, weight, count).backward()  # type: ignore[no-untyped-call]
        assert hidden.grad is not None
        assert not hidden.grad[count:].any()
    assert all(rows % ROUND == 0 for rows in seen)
    assert len(seen) <= PLACES // ROUND + 1
