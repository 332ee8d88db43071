"""Blocks that are computed twice give the gradient of blocks that are computed once."""

import dataclasses

import pytest
import torch
from tests.conftest import make_decoder, make_spec
from tests.train.conftest import CPU, make_plan
from tests.train.test_step import random_batch

from rhapsode.train.masters import WholeMasters
from rhapsode.train.objective import next_token
from rhapsode.train.recompute import recompute
from rhapsode.train.step import gradient
from rhapsode.train.trainer import Data, Trainer


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_gradient_is_the_same(dtype: torch.dtype) -> None:
    batch, found = random_batch(4, 20, seed=3), []
    for again in (False, True):
        model = make_decoder(make_spec(), dtype=dtype)
        calls = []
        model.layers[0].ffn.register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        if again:
            recompute(model)
        masters = WholeMasters(model)
        loss = gradient(model, batch.split(2), objective=next_token, masters=masters)
        found.append((loss, masters.grads))
        assert len(calls) == (4 if again else 2)
    (loss, grads), (loss_again, grads_again) = found
    assert loss == loss_again
    assert all(torch.equal(a, b) for a, b in zip(grads, grads_again, strict=True))


def test_a_plan_asks_for_it(data: Data) -> None:
    plan = make_plan(vocab_size=data.tokenizer.vocab_size)
    once, twice = (Trainer(dataclasses.replace(plan, recompute=again), data, device=CPU) for again in (False, True))
    assert once.step() == twice.step()
    assert all(torch.equal(a.value, b.value) for a, b in zip(once.masters.weights, twice.masters.weights, strict=True))
    assert "forward" in vars(twice.model.layers[0])
    assert "forward" not in vars(once.model.layers[0])
