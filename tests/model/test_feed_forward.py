"""Experts, each token by itself and each expert in turn."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.model.cases import CASES
from torch import Tensor

from rhapsode.model.families.registry import spec_from_config
from rhapsode.model.feed_forward import Mixture, make_feed_forward
from rhapsode.model.spec import Experts, LayerSpec

WIDTH = 12


def mixture(experts: Experts, *, seed: int) -> Mixture:
    spec = spec_from_config({**CASES["olmoe"], "hidden_size": WIDTH, "head_dim": 4})
    made = make_feed_forward(spec, LayerSpec(ffn=7, experts=experts)).double()
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in made.parameters():
            weight.normal_(0, 0.7, generator=random)
    assert isinstance(made, Mixture)
    return made


def by_hand(made: Mixture, x_ND: Tensor, experts: Experts) -> Tensor:
    """Every expert of every token, in words."""
    rows = []
    for x_D in x_ND:
        share_E = (made.router.weight @ x_D).softmax(0)
        chosen = sorted(range(experts.count), key=lambda e: -float(share_E[e].detach()))[: experts.per_token]
        total = sum(share_E[e] for e in chosen) if experts.normalised else 1.0
        row = torch.zeros_like(x_D)
        for e in chosen:
            gate, up = (made.experts_gate_up.weight[e] @ x_D).chunk(2)
            row = row + share_E[e] / total * (made.experts_down.weight[e] @ (gate * gate.sigmoid() * up))
        rows.append(row)
    return torch.stack(rows)


@given(
    count=st.integers(1, 9),
    some=st.integers(1, 9),
    normalised=st.booleans(),
    tokens=st.integers(1, 12),
    seed=st.integers(0, 999),
)
def test_a_mixture_is_the_experts_it_chose_weighed(
    count: int, some: int, normalised: bool, tokens: int, seed: int
) -> None:
    experts = Experts(count, min(some, count), normalised)
    made = mixture(experts, seed=seed)
    x_ND = torch.randn(tokens, WIDTH, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x_ND.requires_grad_()
    found, expected = made(x_ND), by_hand(made, x_ND, experts)
    torch.testing.assert_close(found, expected)
    weights = (x_ND, *made.parameters())
    got = torch.autograd.grad((found**2).sum(), weights, materialize_grads=True)
    wanted = torch.autograd.grad((expected**2).sum(), weights, materialize_grads=True)
    torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("shape", [(5,), (2, 3), (1, 1, 4)])
@torch.no_grad()
def test_any_leading_shape_computes_the_same(shape: tuple[int, ...]) -> None:
    made = mixture(Experts(4, 2, normalised=True), seed=0)
    x = torch.randn(*shape, WIDTH, dtype=torch.float64)
    assert made(x).shape == x.shape
    torch.testing.assert_close(made(x).reshape(-1, WIDTH), made(x.reshape(-1, WIDTH)))


@torch.no_grad()
def test_what_a_token_gets_does_not_depend_on_who_else_is_there() -> None:
    made = mixture(Experts(6, 2, normalised=False), seed=1)
    x = torch.randn(20, WIDTH, dtype=torch.float64)
    together = made(x)
    for row in range(20):
        torch.testing.assert_close(made(x[row : row + 1])[0], together[row])
