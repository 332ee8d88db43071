"""The order is a permutation for every length, seed and epoch, and a mixed one."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhapsode.corpus.order import permutation, permuted

seeds = st.integers(-(2**70), 2**70)
epochs = st.integers(0, 2**40)


@given(st.integers(0, 600), seeds, epochs)
def test_every_item_comes_once(length: int, seed: int, epoch: int) -> None:
    assert sorted(permutation(0, length, length=length, seed=seed, epoch=epoch)) == list(range(length))


@given(st.integers(1, 2**40), seeds, epochs, st.data())
def test_a_slice_is_its_places_alone(length: int, seed: int, epoch: int, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, length))
    stop = data.draw(st.integers(start, min(length, start + 20)))
    items = permutation(start, stop, length=length, seed=seed, epoch=epoch).tolist()
    assert items == [permuted(place, length=length, seed=seed, epoch=epoch) for place in range(start, stop)]
    assert len(set(items)) == len(items)
    assert all(0 <= item < length for item in items)


def test_the_order_is_fixed_forever() -> None:
    """A run that is resumed with a later version must see the same rows."""
    assert permutation(0, 10, length=10, seed=0, epoch=0).tolist() == [2, 9, 6, 3, 4, 7, 0, 8, 5, 1]
    assert permuted(123_456, length=10**12, seed=7, epoch=3) == 623_506_084_858


@pytest.mark.parametrize("length", [2, 3, 5, 8, 13])
def test_short_orders_are_even(length: int) -> None:
    """Over many epochs every item comes about equally often at every place."""
    epochs = 2000
    orders = np.array([permutation(0, length, length=length, seed=1, epoch=epoch) for epoch in range(epochs)])
    counts = np.array([np.bincount(orders[:, place], minlength=length) for place in range(length)])
    assert np.abs(counts - epochs / length).max() < 6 * math.sqrt(epochs / length)


def test_a_long_order_looks_random() -> None:
    length = 100_000
    first = permutation(0, length, length=length, seed=1, epoch=0)
    places = np.arange(length)
    others = [
        permutation(0, length, length=length, seed=1, epoch=1),
        permutation(0, length, length=length, seed=2, epoch=0),
    ]
    for other in (places, *others):
        assert abs(np.corrcoef(first, other)[0, 1]) < 0.02
        assert np.count_nonzero(first == other) < 10
    assert abs(np.corrcoef(first[1:], first[:-1])[0, 1]) < 0.02
    assert abs(np.abs(np.diff(first)).mean() / length - 1 / 3) < 0.01


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (3, 2), (0, 6)])
def test_places_outside_are_refused(start: int, stop: int) -> None:
    with pytest.raises(IndexError, match="of 5 items"):
        permutation(start, stop, length=5, seed=0, epoch=0)
