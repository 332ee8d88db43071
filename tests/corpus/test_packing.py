"""Packing drops nothing, doubles nothing, overfills nothing, and is best-fit decreasing to the row."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhapsode.corpus.packing import NO_TARGET, Piece, batch, pack

lengths_of_documents = st.lists(st.integers(0, 40), max_size=60)
contexts = st.integers(1, 24)
PAD = 999_999


class Listed:
    """Documents whose ids tell which document and place they are of."""

    def __init__(self, lengths: list[int]) -> None:
        self.lengths = lengths

    def document(self, index: int) -> np.ndarray:
        return (1000 * (index + 1) + np.arange(self.lengths[index])).astype(np.uint32)

    def learned(self, _: int) -> None:
        return None


@given(lengths_of_documents, contexts)
def test_every_target_lies_in_exactly_one_piece(lengths: list[int], context: int) -> None:
    packing = pack(lengths, context=context)
    rows = [packing.row(index) for index in range(packing.num_rows)]
    targets = sorted((d, t) for row in rows for d, start, length, *_ in row for t in range(start, start + length))
    assert targets == [(d, t) for d, length in enumerate(lengths) for t in range(length - 1)]
    assert all(0 < sum(piece.length for piece in row) <= context for row in rows)
    assert all(piece.length > 0 and piece.start % context == 0 for row in rows for piece in row)


def best_fit_decreasing(lengths: list[int], context: int) -> list[list[int]]:
    """As the textbook says it, one piece at a time: the filling of each row."""
    pieces = sorted((min(context, n - 1 - s) for n in lengths for s in range(0, n - 1, context)), reverse=True)
    rows: list[list[int]] = []
    for piece in pieces:
        fitting = [row for row in rows if sum(row) + piece <= context]
        best = max(fitting, key=sum, default=None)
        if best is None:
            rows.append([piece])
        else:
            best.append(piece)
    return rows


@given(lengths_of_documents, contexts)
def test_the_rows_are_those_of_best_fit_decreasing(lengths: list[int], context: int) -> None:
    packing = pack(lengths, context=context)
    filled = sorted(sum(piece.length for piece in packing.row(index)) for index in range(packing.num_rows))
    assert filled == sorted(map(sum, best_fit_decreasing(lengths, context)))
    if filled:
        assert packing.efficiency == pytest.approx(sum(filled) / (len(filled) * context))


@given(lengths_of_documents, contexts)
def test_a_batch_is_what_the_plan_says(lengths: list[int], context: int) -> None:
    packing = pack(lengths, context=context)
    split = Listed(lengths)
    rows = batch(split, packing, range(packing.num_rows), pad=PAD)
    assert {array.shape for array in rows} == {(packing.num_rows, context)}
    assert {array.dtype for array in rows} == {np.dtype(np.int64)}
    for index in range(packing.num_rows):
        place = 0
        for number, (document, start, length, *_) in enumerate(packing.row(index), start=1):
            here = np.s_[index, place : place + length]
            ids = split.document(document)
            assert rows.ids[here].tolist() == ids[start : start + length].tolist()
            assert rows.targets[here].tolist() == ids[start + 1 : start + length + 1].tolist()
            assert rows.positions[here].tolist() == list(range(length))
            assert set(rows.documents[here].tolist()) == {number}
            place += length
        rest = np.s_[index, place:]
        for array, padding in zip(rows, (PAD, NO_TARGET, 0, 0, 0), strict=True):
            assert set(array[rest].tolist()) <= {padding}


def test_a_plan_in_full() -> None:
    packing = pack([4, 9, 3, 1, 0], context=5)
    assert [packing.row(index) for index in range(packing.num_rows)] == [
        [Piece(document=1, start=0, length=5)],
        [Piece(document=0, start=0, length=3)],
        [Piece(document=1, start=5, length=3), Piece(document=2, start=0, length=2)],
    ]
    assert packing.num_targets == 13
    rows = batch(Listed([4, 9, 3, 1, 0]), packing, [2, 1], pad=7)
    assert rows.ids.tolist() == [[2005, 2006, 2007, 3000, 3001], [1000, 1001, 1002, 7, 7]]
    assert rows.targets.tolist() == [[2006, 2007, 2008, 3001, 3002], [1001, 1002, 1003, -100, -100]]
    assert rows.positions.tolist() == [[0, 1, 2, 0, 1], [0, 1, 2, 0, 0]]
    assert rows.documents.tolist() == [[1, 1, 1, 2, 2], [1, 1, 1, 0, 0]]


def test_pieces_begin_with_what_they_are_told_to_and_keep_every_target() -> None:
    packing, split = pack([4, 9, 3, 1, 0], context=5), Listed([4, 9, 3, 1, 0])
    plain, begun = (batch(split, packing, [2, 1], pad=7, begin=begin) for begin in (None, 3))
    assert begun.ids.tolist() == [[3, 2006, 2007, 3, 3001], [3, 1001, 1002, 7, 7]]
    for before, after in zip(plain[1:], begun[1:], strict=True):
        assert np.array_equal(before, after)


def test_nothing_packs_to_nothing() -> None:
    packing = pack([], context=8)
    assert (packing.num_rows, packing.num_targets, packing.efficiency) == (0, 0, 1.0)
    assert batch(Listed([]), packing, [], pad=0).ids.shape == (0, 8)


def test_a_million_documents_pack_in_seconds_and_almost_without_padding() -> None:
    lengths = np.clip(np.random.default_rng(0).lognormal(6, 1.2, 1_000_000), 2, 200_000).astype(np.int64)
    packing = pack(lengths, context=2048)
    assert packing.num_targets == (lengths - 1).sum()
    assert packing.efficiency > 0.999


@pytest.mark.parametrize("index", [-1, 1])
def test_a_row_that_is_not_there_is_an_error(index: int) -> None:
    with pytest.raises(IndexError, match=f"row {index} of 1"):
        pack([5], context=8).row(index)


def test_a_context_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="context 0"):
        pack([5], context=0)
