"""Intervals of any figure hold the truth as often as they say, items of one group count as one draw."""

import math

import numpy as np
import pytest
from scipy import stats

from rhapsode.evaluate.arrays import Floats
from rhapsode.evaluate.jackknife import FEWEST_GROUPS, group_sums, spread, spread_of_difference
from rhapsode.evaluate.scorers.registry import scorer
from rhapsode.evaluate.scorers.scorer import Mean, share


def mean(sums: Floats) -> Floats:
    return share(sums[..., 0], of=sums[..., 1])


def counted(scores: Floats) -> Floats:
    return np.stack([scores, np.ones_like(scores)], axis=1)


def names(groups: Floats) -> list[str]:
    return [f"g{int(group):05d}" for group in groups]


def test_the_interval_of_a_mean_is_students() -> None:
    scores = np.random.default_rng(0).uniform(0.3, 0.6, 50)
    found = spread(counted(scores), mean, confidence=0.95)
    expected = stats.t.interval(0.95, 49, loc=scores.mean(), scale=stats.sem(scores))
    assert (found.low, found.high) == pytest.approx(expected)
    assert found.value == pytest.approx(scores.mean())
    assert found.groups == 50


def test_a_difference_is_that_of_pairs() -> None:
    random = np.random.default_rng(1)
    hard = random.uniform(0, 0.8, 80)
    one, other = hard + random.uniform(0, 0.2, 80), hard + random.uniform(0, 0.2, 80)
    found = spread_of_difference(counted(one), counted(other), mean, confidence=0.9)
    test = stats.ttest_rel(one, other).confidence_interval(0.9)
    assert (found.low, found.high) == pytest.approx((test.low, test.high))


@pytest.mark.parametrize("size", [1, 4], ids=["items", "clusters"])
@pytest.mark.parametrize("is_plain", [True, False], ids=["right or wrong", "between"])
def test_no_difference_is_called_one_in_a_twentieth_of_the_cases(size: int, is_plain: bool) -> None:
    """Two models of the same worth on groups of one to seven items that are easy or hard together."""
    random, simulations, wrong = np.random.default_rng(2), 1000, 0
    for _ in range(simulations):
        sizes = random.integers(1, 2 * size, 80)
        group = np.repeat(np.arange(80), sizes)
        hard, own = random.uniform(0.1, 0.9, 80)[group], random.normal(0, 0.2, (2, 80))[:, group]
        chance = np.clip(hard + own, 0, 1)
        scores = (random.uniform(size=chance.shape) < chance).astype(float) if is_plain else chance
        sums = [group_sums(counted(one), names(group)) for one in scores]
        found = spread_of_difference(*sums, figure=mean, confidence=0.95)
        assert found.low is not None
        assert found.high is not None
        wrong += not found.low <= 0 <= found.high
    assert wrong / simulations == pytest.approx(0.05, abs=0.015)


def test_clusters_taken_for_items_would_be_wrong_far_more_often() -> None:
    """The test above could not pass if groups were not heeded."""
    random, wrong = np.random.default_rng(3), 0
    for _ in range(300):
        gain = np.repeat(random.normal(0, 0.2, 40), 6)
        found = spread_of_difference(
            counted(np.clip(0.5 + gain, 0, 1)), counted(np.full(240, 0.5)), mean, confidence=0.95
        )
        assert found.low is not None
        assert found.high is not None
        wrong += not found.low <= 0 <= found.high
    assert wrong > 100


PHRASES = (
    "the wine is red and sweet", "the wine is white and dry", "a dark sea and a black ship", "far away from home now",
    "the night is long and the fire low",
)  # fmt: skip


@pytest.mark.parametrize("name", ["macro_f1", "chrf", "bleu"])
def test_intervals_of_figures_of_sets_hold_the_difference_of_all_items(name: str) -> None:
    judge, random = scorer(name), np.random.default_rng(4)
    wanted = [str(phrase) for phrase in random.choice(PHRASES, 1000, p=(0.4, 0.3, 0.1, 0.1, 0.1))]
    said = [[w if random.uniform() < right else str(random.choice(PHRASES)) for w in wanted] for right in (0.7, 0.5)]
    after, before = (judge.judge(answers, wanted).counts for answers in said)
    truth = float(judge.figure(after.sum(axis=0)) - judge.figure(before.sum(axis=0)))
    held = 0
    for _ in range(200):
        drawn = random.integers(0, 1000, 100)
        found = spread_of_difference(after[drawn], before[drawn], judge.figure, confidence=0.9)
        assert found.low is not None
        assert found.high is not None
        held += found.low <= truth <= found.high
    assert 170 <= held <= 190


def test_groups_that_are_all_alike_leave_room_for_other_kinds() -> None:
    found = spread(counted(np.ones(60)), mean, confidence=0.95)
    assert found.value == found.high == 1
    assert found.low == pytest.approx(stats.beta.ppf(0.05, 60, 1))
    none = spread_of_difference(counted(np.ones(60)), counted(np.ones(60)), mean, confidence=0.95)
    assert (none.low, none.high) == pytest.approx((-0.0487, 0.0487), abs=1e-4)


def test_intervals_stay_within_what_is_possible() -> None:
    scores = np.r_[np.ones(19), 0.0]
    found = spread(counted(scores), mean, confidence=0.99)
    assert found.high == 1
    gain = spread_of_difference(counted(scores), counted(np.zeros(20)), mean, confidence=0.99)
    assert gain.high == 1


def test_groups_that_count_nothing_are_none() -> None:
    counts = counted(np.array([1.0, 0.0] * 6))
    idle = np.concatenate([counts, np.zeros((50, 2))])
    assert spread(idle, mean, confidence=0.95) == spread(counts, mean, confidence=0.95)


def test_too_few_groups_get_no_interval_however_many_items_they_have() -> None:
    random = np.random.default_rng(5)
    few = group_sums(counted(random.uniform(size=700)), names(np.arange(700) % (FEWEST_GROUPS - 1)))
    found = spread(few, mean, confidence=0.95)
    assert (found.low, found.high, found.groups) == (None, None, FEWEST_GROUPS - 1)
    assert not math.isnan(found.value)


def test_sums_of_groups_are_those_of_their_items() -> None:
    counts = counted(np.array([1.0, 0.0, 1.0, 1.0]))
    np.testing.assert_array_equal(group_sums(counts, ["b", "a", "b", "c"]), [[0, 1], [2, 2], [1, 1]])


def test_a_mean_scorer_is_judged_through_the_same_sums() -> None:
    judge = Mean("half", lambda answer, wanted: 0.5 * (answer == wanted))
    found = spread(judge.judge(["a"] * 10, ["a", "b"] * 5).counts, judge.figure, confidence=0.95)
    assert found.value == pytest.approx(0.25)
