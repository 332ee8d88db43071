from collections import Counter

import numpy as np
import numpy.typing as npt
import pytest
import torch
from tests.train.conftest import CONTEXT, CPU

from rhapsode.corpus.packing import Rows
from rhapsode.corpus.tokens import TokenSplit
from rhapsode.train.loader import Loader
from rhapsode.train.trainer import Data
from rhapsode.train.validation import Validation


def make_loader(data: Data, *, rows: int, seed: int = 0) -> Loader:
    split = data.tokens.split("train")
    return Loader(split, data.training, rows=rows, seed=seed, pad=data.tokenizer.pad, begin=None, device=CPU)


def test_an_epoch_has_every_row_once_and_the_next_has_another_order(data: Data) -> None:
    load, total = make_loader(data, rows=7), data.training.num_rows
    rows = [row for step in range(2 * total // 7 + 1) for row in load.rows_of(step)]
    first, second = rows[:total], rows[total : 2 * total]
    assert sorted(first) == sorted(second) == list(range(total))
    assert first != second


def test_a_step_knows_its_rows_without_the_steps_before_it(data: Data) -> None:
    forwards, backwards = make_loader(data, rows=4), make_loader(data, rows=4)
    seen = [forwards(step) for step in range(5)]
    for step in reversed(range(5)):
        again = backwards(step)
        assert all(torch.equal(getattr(again, name), getattr(seen[step], name)) for name in Rows._fields)
    assert make_loader(data, rows=4, seed=1).rows_of(0) != forwards.rows_of(0)


class Torn:
    """A split whose disk may go away."""

    def __init__(self, split: TokenSplit) -> None:
        self._split, self.is_gone = split, False

    def document(self, index: int) -> npt.NDArray[np.unsignedinteger]:
        if self.is_gone:
            raise OSError("the disk is gone")
        return self._split.document(index)

    def learned(self, _: int) -> None:
        return None


def test_a_disk_that_goes_away_is_told_of_when_its_rows_are_asked_for(data: Data) -> None:
    torn = Torn(data.tokens.split("train"))
    load = Loader(torn, data.training, rows=2, seed=0, pad=data.tokenizer.pad, begin=None, device=CPU)  # type: ignore[arg-type]
    load(0)
    assert load._next is not None
    load._next[1].result()
    torn.is_gone = True
    assert torch.equal(load(1).ids, make_loader(data, rows=2)(1).ids)
    for _ in range(2):
        with pytest.raises(OSError, match="the disk is gone"):
            load(2)
    torn.is_gone = False
    with pytest.raises(OSError, match="the disk is gone"):
        load(2)


def test_every_target_of_the_data_is_trained_once_an_epoch(data: Data) -> None:
    load, split = make_loader(data, rows=1), data.tokens.split("train")
    trained: Counter[int] = Counter()
    for step in range(data.training.num_rows):
        batch = load(step)
        assert batch.ids.shape == (1, CONTEXT)
        trained.update(batch.targets[batch.targets >= 0].tolist())
    expected = Counter(int(i) for n in range(split.num_documents) for i in split.document(n)[1:])
    assert trained == expected


def test_validation_looks_at_the_same_rows_and_counts_bits_of_text(data: Data) -> None:
    from tests.conftest import make_decoder, make_spec

    from rhapsode.train.objective import next_token

    model = make_decoder(make_spec(vocab_size=data.tokenizer.vocab_size), std=0.02)
    split = data.tokens.split("validation")

    def look(max_tokens: int, rows: int) -> float:
        validation = Validation(
            split, context=CONTEXT, tokenizer=data.tokenizer, max_tokens=max_tokens, rows=rows, begin=None
        )
        return validation(model, next_token).bits_per_byte

    everything = look(10**9, 4)
    assert everything == look(10**9, 4)
    assert abs(everything / look(10**9, 1) - 1) < 1e-5
    # weights near zero guess uniformly: log2(V) bits for each target, over the bytes of the text
    targets = split.num_tokens - split.num_documents
    uniform = targets * torch.log2(torch.tensor(float(data.tokenizer.vocab_size))) / split.num_bytes
    assert abs(everything / float(uniform) - 1) < 0.02
    assert look(1, 4) > 0
