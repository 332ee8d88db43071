"""Intervals hold the truth as often as they say, and comparisons are paired."""

import numpy as np
import pytest

from rhapsode.evaluate.interval import FEWEST_DOCUMENTS, Draws, ratio

DRAWS = Draws(confidence=0.95, resamples=600, seed=0)


def corpus(rng: np.random.Generator, documents: int) -> np.ndarray:
    """Sizes of documents, as uneven as those of real ones."""
    return np.exp(rng.normal(8, 1, documents))


def test_no_difference_is_reported_as_one_in_a_twentieth_of_the_cases() -> None:
    rng = np.random.default_rng(0)
    simulations, wrong = 1000, 0
    for _ in range(simulations):
        sizes = corpus(rng, 60)
        hardness = rng.normal(1.2, 0.3, 60)
        one, other = (sizes * (hardness + rng.normal(0, 0.1, 60)) for _ in range(2))
        _, low, high = ratio(one - other, of=sizes, draws=DRAWS)
        assert low is not None
        assert high is not None
        wrong += not low <= 0 <= high
    assert wrong / simulations == pytest.approx(0.05, abs=0.015)


def test_intervals_hold_the_true_ratio() -> None:
    rng = np.random.default_rng(1)
    simulations, held = 400, 0
    for _ in range(simulations):
        sizes = corpus(rng, 100)
        _, low, high = ratio(sizes * rng.normal(1.2, 0.2, 100), of=sizes, draws=DRAWS)
        assert low is not None
        assert high is not None
        held += low <= 1.2 <= high
    assert 0.92 <= held / simulations <= 0.975


def test_a_document_is_one_draw_however_many_tokens_it_has() -> None:
    """Splitting documents into tokens would make the interval many times too narrow."""
    rng = np.random.default_rng(2)
    sizes, rates = np.full(40, 1000.0), rng.normal(1.2, 0.3, 40)
    _, low, high = ratio(sizes * rates, of=sizes, draws=DRAWS)
    assert low is not None
    assert high is not None
    assert high - low == pytest.approx(2 * 2.02 * rates.std(ddof=1) / np.sqrt(40), rel=0.15)


def test_pairs_are_much_sharper_than_two_intervals() -> None:
    rng = np.random.default_rng(3)
    sizes, hardness = corpus(rng, 50), rng.normal(1.2, 0.3, 50)
    one, other = sizes * hardness, sizes * (hardness + 0.02)
    alone, pair = ratio(one, of=sizes, draws=DRAWS), ratio(one - other, of=sizes, draws=DRAWS)
    assert alone.low is not None
    assert alone.high is not None
    assert alone.high - alone.low > 0.1
    assert pair == pytest.approx((-0.02, -0.02, -0.02))


def test_the_ratio_is_of_sums_and_units_do_not_matter() -> None:
    bits, sizes = np.array([1.0, 2, 3, 4] * 4), np.array([8.0, 2, 4, 6] * 4)
    found = ratio(bits, of=sizes, draws=DRAWS)
    assert found.value == pytest.approx(0.5)
    assert ratio(bits * 1e9, of=sizes * 1e9, draws=DRAWS) == pytest.approx(found)


def test_seeds_repeat_and_matter() -> None:
    bits, sizes = np.arange(1.0, 31), np.arange(2.0, 32) ** 1.1
    assert ratio(bits, of=sizes, draws=DRAWS) == ratio(bits, of=sizes, draws=DRAWS)
    assert ratio(bits, of=sizes, draws=DRAWS) != ratio(bits, of=sizes, draws=DRAWS._replace(seed=1))


def test_draws_in_chunks_are_the_same_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    bits, sizes = np.arange(1.0, 31), np.arange(2.0, 32) ** 1.1
    whole = ratio(bits, of=sizes, draws=DRAWS)
    monkeypatch.setattr("rhapsode.evaluate.interval._CHUNK_WEIGHTS", 1000)
    assert ratio(bits, of=sizes, draws=DRAWS) == whole


def test_documents_all_alike_leave_no_doubt() -> None:
    sizes = np.full(20, 3.0)
    assert ratio(sizes * 1.5, of=sizes, draws=DRAWS) == (1.5, 1.5, 1.5)


def test_too_few_documents_get_no_interval() -> None:
    sizes = np.arange(1.0, FEWEST_DOCUMENTS)
    assert ratio(sizes * 2, of=sizes, draws=DRAWS) == (2.0, None, None)
