"""Runs that differ in seeds alone: the mean and how sure it is."""

import numpy as np
import pytest

from rhapsode.evaluate.repeats import repeats, student


@pytest.mark.parametrize(
    ("confidence", "freedom", "value"),
    [
        (0.95, 1, 12.7062),
        (0.95, 2, 4.3027),
        (0.95, 4, 2.7764),
        (0.9, 9, 1.8331),
        (0.99, 1, 63.6567),
        (0.99, 30, 2.75),
        (0.95, 10**6, 1.96),
    ],
)
def test_reaches_as_far_as_the_table_of_student(confidence, freedom, value):
    assert student(confidence, freedom=freedom) == pytest.approx(value, abs=1e-4)


def test_the_interval_holds_the_true_mean_as_often_as_it_says():
    random = np.random.default_rng(0)
    found = [repeats(random.normal(2, 0.1, 3).tolist(), confidence=0.9) for _ in range(2000)]
    held = np.mean([one.low is not None and one.high is not None and one.low <= 2 <= one.high for one in found])
    assert held == pytest.approx(0.9, abs=0.02)


def test_one_run_tells_nothing_of_another():
    assert repeats([1.5], confidence=0.95) == (1, 1.5, None, None, None)
