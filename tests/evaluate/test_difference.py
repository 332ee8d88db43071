"""Two models: in pairs where they read the same documents, else from the interval of each."""

import dataclasses

import numpy as np
import pytest

from rhapsode.evaluate.difference import difference
from rhapsode.evaluate.evaluation import Evaluation, HeldOutDocument, Row
from rhapsode.evaluate.interval import Draws, ratio

DRAWS = Draws(confidence=0.95, resamples=500, seed=0)


def measured(bits: np.ndarray, *, name: str = "model", corpus: str = "a") -> Evaluation:
    """An evaluation of documents of 1000 bytes each."""
    sizes = np.full(len(bits), 1000.0)
    row = Row(
        name, *ratio(bits, of=sizes, draws=DRAWS), bytes=int(sizes.sum()), documents=len(bits), seconds=0, note=""
    )
    documents = tuple(HeldOutDocument(f"{corpus}{i}", 1000, float(b), {}) for i, b in enumerate(bits))
    return Evaluation((row,), None, None, documents, context=64, stride=32, precision="bfloat16", **DRAWS._asdict())


@pytest.fixture
def bits() -> np.ndarray:
    """Documents differ much more than the models do."""
    return np.random.default_rng(0).uniform(1000, 4000, 40)


def test_the_same_documents_are_compared_in_pairs(bits):
    found = difference(measured(bits + 20 + np.arange(40)), measured(bits))
    assert found.is_paired
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.value < found.high
    assert found.value == pytest.approx(0.0395)
    assert not found.is_none


def test_other_documents_are_not_and_the_interval_is_wider(bits):
    worse = bits + 20 + np.arange(40)
    paired, found = (difference(measured(worse, corpus=corpus), measured(bits)) for corpus in "ab")
    assert not found.is_paired
    assert found.value == pytest.approx(paired.value)
    assert found.low is not None
    assert found.high is not None
    assert paired.low is not None
    assert paired.high is not None
    assert found.high - found.low > 10 * (paired.high - paired.low)
    assert found.is_none


def test_equal_documents_of_another_size_are_no_pairs(bits):
    one, other = measured(bits), measured(bits)
    longer = tuple(dataclasses.replace(d, bytes=d.bytes + 1) for d in other.documents)
    assert not difference(one, dataclasses.replace(other, documents=longer)).is_paired


def test_an_unpaired_interval_is_the_right_one_for_independent_means():
    """Where both are symmetric, its half is the root of the sum of squares."""
    rows = [Row("x", value, value - half, value + half, 1, 9, 0, "") for value, half in ((2.0, 0.3), (1.5, 0.4))]
    one, other = (dataclasses.replace(measured(np.ones(9), corpus=r.name + str(r.low)), rows=(r,)) for r in rows)
    assert difference(one, other)[:3] == pytest.approx((0.5, 0.0, 1.0))


@pytest.mark.parametrize("corpus", ["a", "b"])
def test_too_few_documents_leave_the_question_open(bits, corpus):
    found = difference(measured(bits[:5] + 1, corpus=corpus), measured(bits[:5]))
    assert found[1:3] == (None, None)
    assert not found.is_none
