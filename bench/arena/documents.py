"""Documents of random tokens, on disk as a corpus of ours is: what a step costs does not depend on what it reads."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from arena.shape import Shape
from rhapsode.core.manifest import writing
from rhapsode.corpus.token_files import Entry, TokenWriter, token_dtype
from rhapsode.corpus.tokens import KIND, TokenSplit
from rhapsode.text.tokenizer import train_tokenizer

SHARD_TOKENS = 100_000_000
SHORTEST = 8


def write_documents(path: Path, shape: Shape, *, rows: int, per_row: int) -> Path:
    """A tokens directory.

    Args:
        rows: with one document a row, how many there are: a batch, which every step reads again. Otherwise eight times
            as many rows' worth.
        per_row: documents that lie in a row, on average; their lengths vary.
    """
    random = np.random.default_rng(0)
    lengths = [shape.context] * rows if per_row == 1 else _lengths(random, rows * 8, shape.context, per_row)
    with writing(path, kind=KIND, facts={"dtype": token_dtype(shape.vocab).name}) as work:
        train_tokenizer(["nobody reads this"], vocab_size=300).save(work.path)
        for split, targets in (("train", lengths), ("validation", lengths[:1])):
            with TokenWriter(work.path, split, vocab_size=shape.vocab, shard_tokens=SHARD_TOKENS) as writer:
                for number, length in enumerate(targets):
                    ids = random.integers(0, shape.vocab, length + 1).tolist()
                    writer.add(Entry(ids, f"{split}{number}", "random", 4 * length))
    return path


def _lengths(random: np.random.Generator, rows: int, context: int, per_row: int) -> list[int]:
    """From a few tokens to twice the mean, never more than a row."""
    mean = context // per_row
    lengths: list[int] = []
    while sum(lengths) < rows * context:
        lengths.append(min(context, int(random.integers(SHORTEST, 2 * mean))))
    return lengths


class Stream:
    """What the peers read: documents end to end, cut into rows wherever a row is full, in a random order.

    A row has one token more than the context, so that every token of the stream but the first is predicted once.
    """

    def __init__(self, split: TokenSplit, *, context: int, rows: int, seed: int) -> None:
        self._ids = np.concatenate([split.document(i) for i in range(split.num_documents)])
        self._context, self._rows, self._seed = context, rows, seed
        self._total = (len(self._ids) - 1) // context
        self._orders: dict[int, npt.NDArray[np.int64]] = {}

    def __call__(self, step: int) -> npt.NDArray[np.int64]:
        """[rows, context + 1] for the step, counted from 0; every row once an epoch."""
        places = range(step * self._rows, (step + 1) * self._rows)
        starts = [self._order(p // self._total)[p % self._total] * self._context for p in places]
        return np.stack([self._ids[s : s + self._context + 1] for s in starts]).astype(np.int64)

    def _order(self, epoch: int) -> npt.NDArray[np.int64]:
        if epoch not in self._orders:
            self._orders[epoch] = np.random.default_rng((self._seed, epoch)).permutation(self._total)
        return self._orders[epoch]
