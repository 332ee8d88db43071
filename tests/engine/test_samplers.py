import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from rhapsode.core.errors import RhapsodeError
from rhapsode.engine.samplers import compose, draw, keep_min_p, keep_top_k, keep_top_p, temper
from rhapsode.engine.sampling import Sampling

VOCAB = 40


def scores_of(seed: int) -> Tensor:
    return torch.randn(VOCAB, generator=torch.Generator().manual_seed(seed)) * 3


def kept(scores: Tensor) -> set[int]:
    return set(torch.nonzero(scores > -math.inf).squeeze(-1).tolist())


@settings(deadline=None)
@given(st.integers(0, 2**20), st.integers(1, VOCAB + 5), st.floats(0.0, 1.0), st.floats(0.0, 1.0), st.floats(0.1, 5.0))
def test_what_is_kept_is_what_transformers_keeps(seed: int, k: int, top_p: float, min_p: float, heat: float) -> None:
    scores = scores_of(seed)
    ids = torch.tensor([[1]])
    assert kept(keep_top_k(scores, top_k=k)) == kept(TopKLogitsWarper(k)(ids, scores[None])[0])
    assert kept(keep_min_p(scores, min_p=min_p)) == kept(MinPLogitsWarper(min_p)(ids, scores[None])[0])
    ours, theirs = keep_top_p(scores, top_p=top_p), TopPLogitsWarper(top_p)(ids, scores[None])[0]
    chances = torch.softmax(scores, -1).sort(descending=True).values
    at_a_border = (chances.cumsum(-1) - top_p).abs().min() < 1e-5
    assert at_a_border or kept(ours) == kept(theirs)
    torch.testing.assert_close(
        torch.softmax(temper(scores, temperature=heat), -1),
        torch.softmax(TemperatureLogitsWarper(heat)(ids, scores[None])[0], -1),
    )


@settings(deadline=None)
@given(st.integers(0, 2**20), st.floats(0.5, 3.0), st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=20))
def test_repetition_penalty_is_that_of_transformers(seed: int, penalty: float, seen: list[int]) -> None:
    scores = scores_of(seed)
    half = len(seen) // 2
    expected = RepetitionPenaltyLogitsProcessor(penalty)(torch.tensor([seen]), scores[None].clone())[0]
    sampler = compose(Sampling(temperature=0, repetition_penalty=penalty))
    untouched = scores.clone()
    assert sampler(scores, prompt=seen[:half], answer=seen[half:]) == int(expected.argmax())
    assert torch.equal(scores, untouched)


def test_draws_follow_the_distribution_that_transformers_gives() -> None:
    scores = scores_of(1)
    steps = [RepetitionPenaltyLogitsProcessor(1.3), TemperatureLogitsWarper(0.8), TopKLogitsWarper(12)]
    expected = LogitsProcessorList([*steps, TopPLogitsWarper(0.9), MinPLogitsWarper(0.05)])(
        torch.tensor([[3, 4]]), scores[None].clone()
    )[0].softmax(-1)
    sampler = compose(Sampling(temperature=0.8, top_k=12, top_p=0.9, min_p=0.05, repetition_penalty=1.3, seed=0))
    draws = 4000
    counts = Counter(sampler(scores, prompt=[3], answer=[4]) for _ in range(draws))
    for token, chance in enumerate(expected.tolist()):
        error = 4 * math.sqrt(chance * (1 - chance) / draws)
        assert abs(counts[token] / draws - chance) <= error


@given(st.integers(0, 2**20), st.floats(0.0, 1.0, exclude_max=True), st.integers(1, VOCAB))
def test_nothing_ruled_out_is_drawn(seed: int, uniform: float, k: int) -> None:
    scores = keep_top_k(scores_of(seed), top_k=k)
    assert draw(scores, uniform) in kept(scores)


def test_the_ends_of_the_unit_interval_are_the_first_and_the_last_kept_token() -> None:
    scores = torch.tensor([-math.inf, 0.0, 0.0, -math.inf])
    assert [draw(scores, uniform) for uniform in (0.0, 0.49, 0.5, math.nextafter(1.0, 0.0))] == [1, 1, 2, 2]


def test_penalties_of_the_answer_and_biases() -> None:
    scores = torch.zeros(4)
    frequent = compose(Sampling(temperature=0, frequency_penalty=0.5, logit_bias={1: 1.2, 2: 1.0}))
    assert frequent(scores, prompt=[1, 1, 1], answer=[]) == 1
    assert frequent(scores, prompt=[], answer=[1]) == 2
    present = compose(Sampling(temperature=0, presence_penalty=0.5, logit_bias={1: 1.2, 2: 1.0}))
    assert present(scores, prompt=[], answer=[2, 2, 2, 1]) == 1
    assert present(scores, prompt=[], answer=[1]) == 2


@pytest.mark.parametrize("temperature", [1e-9, 1e-300, 100.0])
def test_extreme_temperatures_give_a_token(temperature: float) -> None:
    scores = scores_of(2)
    token = compose(Sampling(temperature=temperature, seed=0))(scores, prompt=[], answer=[])
    assert temperature == 100.0 or token == int(scores.argmax())


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("max_tokens", [-1]),
        ("temperature", [-0.1, 101.0, math.nan, math.inf]),
        ("top_k", [-1]),
        ("top_p", [-0.1, 1.5, math.nan]),
        ("min_p", [-0.1, 1.1, math.nan]),
        ("repetition_penalty", [0.0, -1.0, 1e30, math.nan]),
        ("frequency_penalty", [-2.1, 2.1, math.nan]),
        ("presence_penalty", [-2.1, 1e30, math.nan]),
        ("seed", [2**64, -(2**63) - 1]),
        ("logprobs", [-1, 21]),
        ("prompt_logprobs", [-1, 21]),
        ("logit_bias", [{1: 101.0}, {1: math.inf}, {1: math.nan}, dict.fromkeys(range(301), 1.0)]),
    ],
)
def test_a_value_without_meaning_is_refused_by_name(name: str, values: list[object]) -> None:
    for value in values:
        with pytest.raises(RhapsodeError, match=name):
            Sampling(**{name: value})
