"""Preferences in packed rows: pairs find each other, and are compared with what the model was."""

import contextlib
import copy
import math

import pytest
import torch
from tests.conftest import make_decoder, make_spec

from rhapsode.kernels.cross_entropy import IGNORE
from rhapsode.model.adapter import adapt, without_adapters
from rhapsode.model.adapter_spec import AdapterSpec
from rhapsode.model.decoder import Decoder
from rhapsode.train.objective import Batch, next_token
from rhapsode.train.objectives.pairs import Preferences, Reference, lowest_trained, pairs_of
from rhapsode.train.objectives.preference import Pairs, dpo

DPO = {"beta": 0.1, "label_smoothing": 0.0}


def make_batch(*, is_shared: bool) -> Batch:
    """Two rows of two pairs each; prompts of 4, answers of 3 and 2 tokens."""
    random = torch.Generator().manual_seed(0)
    rows = []
    for _ in range(2):
        pieces = []
        for tree in (1, 2):
            prompt, *answers = (torch.randint(3, 90, (n,), generator=random).tolist() for n in (4, 3, 2))
            trunk = 3 if is_shared else 0
            if trunk:
                pieces += [(token, IGNORE, at, tree, 0) for at, token in enumerate(prompt[:trunk])]
            for branch, answer in enumerate(answers, start=1):
                ids = [*prompt, *answer]
                for at in range(trunk, len(ids) - 1):
                    target = ids[at + 1] if at + 1 >= len(prompt) else IGNORE
                    pieces.append((ids[at], target, at, tree, branch))
        rows.append(pieces)
    columns = torch.tensor(rows).permute(2, 0, 1)
    return Batch(*columns)


def one_by_one(model: Decoder, batch: Batch) -> Pairs:
    """Every answer by itself, behind its own prompt."""
    sums = []
    for row in range(len(batch.ids)):
        for tree in (1, 2):
            for branch in (1, 2):
                own = (batch.documents[row] == tree) & ((batch.branches[row] == 0) | (batch.branches[row] == branch))
                alone = batch.map(lambda tensor, row=row, own=own: tensor[row][own][None])
                sums.append(-next_token(model, alone._replace(documents=alone.documents * 0 + 1)).total)
    found = torch.stack(sums)
    return Pairs(found[0::2], found[1::2])


@pytest.mark.parametrize("is_shared", [False, True])
def test_packed_pairs_are_those_of_answers_read_one_by_one(*, is_shared: bool) -> None:
    model, batch = make_decoder(make_spec(), dtype=torch.float64), make_batch(is_shared=is_shared)
    for found, expected in zip(pairs_of(model, batch, is_mean=False), one_by_one(model, batch), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_at_the_beginning_a_pair_costs_ln_2_whatever_is_trained() -> None:
    batch = make_batch(is_shared=True)
    adapted = make_decoder(make_spec(), dtype=torch.float64)
    before = copy.deepcopy(adapted)
    adapt(adapted, AdapterSpec(rank=4, alpha=8), seed=0)
    own = Preferences("dpo", DPO, reference=Reference(adapted, lambda: without_adapters(adapted)))
    other = Preferences("dpo", DPO, reference=Reference(before, contextlib.nullcontext))
    for objective in (own, other):
        found = objective(adapted, batch)
        assert (found.num_terms, found.num_tokens) == (4, batch.num_targets)
        assert float(found.total.detach()) == pytest.approx(4 * math.log(2))


def test_the_reference_of_an_adapter_is_its_base() -> None:
    batch, model = make_batch(is_shared=False), make_decoder(make_spec(), dtype=torch.float64)
    before = pairs_of(model, batch, is_mean=False)
    adapt(model, AdapterSpec(rank=4, alpha=8), seed=0)
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.add_(0.1 * name.endswith(".B"))
    found = Preferences("dpo", DPO, reference=Reference(model, lambda: without_adapters(model)))(model, batch)
    expected = dpo(pairs_of(model, batch, is_mean=False), before, **DPO)
    torch.testing.assert_close(found.total, expected.total, rtol=1e-9, atol=1e-9)
    assert not torch.isclose(found.total, torch.tensor(4 * math.log(2), dtype=torch.float64))


def upper_adapted() -> Decoder:
    """With an adapter on the last block alone, which has learned something."""
    model = make_decoder(make_spec(), dtype=torch.float64)
    last = len(model.layers) - 1
    adapt(model, AdapterSpec(rank=4, alpha=8, layers=(last,)), seed=0)
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.add_(0.1 * name.endswith(".B"))
    return model


@pytest.mark.parametrize("is_shared", [False, True])
def test_blocks_below_the_adapter_are_computed_once_for_policy_and_reference(*, is_shared: bool) -> None:
    """The plain twin computes everything twice, the reference with a model of its own."""
    model, batch, calls = upper_adapted(), make_batch(is_shared=is_shared), [0] * len(make_spec().layers)
    twin = copy.deepcopy(model)
    before = copy.deepcopy(model)
    for index, block in enumerate(model.layers):
        block.register_forward_hook(lambda *_, index=index: calls.__setitem__(index, calls[index] + 1))
    trained = [[p for p in own.parameters() if p.requires_grad] for own in (model, twin)]
    for name, numbers in (("dpo", DPO), ("ipo", {"beta": 0.1})):
        calls[:] = [0] * len(calls)
        found = Preferences(name, numbers, reference=Reference(model, lambda: without_adapters(model)))(model, batch)
        assert calls == [1] * (len(calls) - 1) + [2]
        plain = Preferences(name, numbers, reference=Reference(before, lambda: without_adapters(before)))(twin, batch)
        torch.testing.assert_close(found.total, plain.total, rtol=1e-12, atol=0)
        grads = [torch.autograd.grad(loss.total, own) for loss, own in zip((found, plain), trained, strict=True)]
        torch.testing.assert_close(*grads, rtol=1e-11, atol=1e-12)


def test_nothing_is_shared_where_the_lowest_block_or_the_embedding_is_trained() -> None:
    model = upper_adapted()
    assert lowest_trained(model) == len(model.layers) - 1
    model.embedding.weight.requires_grad_()
    assert lowest_trained(model) == 0
    assert lowest_trained(make_decoder(make_spec())) == 0


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("orpo", {"weight": 0.1}),
        ("simpo", {"beta": 2.0, "margin": 1.0, "label_smoothing": 0.0}),
        ("ipo", {"beta": 0.1}),
    ],
)
def test_the_others_learn_from_the_same_rows(name: str, numbers: dict[str, float]) -> None:
    model, batch = make_decoder(make_spec(), dtype=torch.float64), make_batch(is_shared=False)
    reference = Reference(copy.deepcopy(model), contextlib.nullcontext)
    objective, losses = Preferences(name, numbers, reference=reference), []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    for _ in range(12):
        loss = objective(model, batch)
        losses.append(float(loss.total.detach()))
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
    assert losses[-1] < losses[0]
