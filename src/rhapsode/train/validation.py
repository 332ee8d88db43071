"""A quick look at held-out documents during training: bits per byte over a fixed set of packed rows.

Each source of the corpus has rows of its own, so a small source is seen as well as a large one, and the whole is the
mean of the sources by their held-out bytes. Rows are cut at the model's context and every document starts without any,
so this reads a little higher than the final measurement, which slides a window; it is for the curve.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from rhapsode.corpus.packing import Packing, batch
from rhapsode.corpus.tokens import TokenSplit
from rhapsode.corpus.trees import pack_split, too_long
from rhapsode.kernels.cross_entropy import IGNORE
from rhapsode.model.decoder import Decoder
from rhapsode.text.tokenizer import Tokenizer
from rhapsode.train.objective import Objective, to_batch

MOST_SOURCES = 16
"""More are looked at together, the smallest ones, as `OTHERS`: each needs rows of its own."""
OTHERS = "others"


class Look(NamedTuple):
    """Bits per byte of held-out text, of all of it and of each source."""

    bits_per_byte: float
    by_source: dict[str, float]


@dataclass(frozen=True)
class Held:
    """The rows of a source that are looked at, in a packing of its own; `num_bytes` of all its held-out text."""

    packing: Packing
    rows: list[int]
    num_bytes: int


class Validation:
    """The same rows every time, spread evenly over the held-out documents of every source.

    Args:
        max_tokens: of all rows together, unless there are more sources than that.
        rows: computed at once.
        is_shared: examples that begin alike may share their beginning, as in `corpus.trees.pack_split`.
        is_written: whether the model writes; of one that does not, the loss of a term is looked at, in bits.
    """

    def __init__(
        self,
        split: TokenSplit,
        *,
        context: int,
        tokenizer: Tokenizer,
        max_tokens: int,
        rows: int,
        begin: int | None,
        is_shared: bool = False,
        is_written: bool = True,
    ) -> None:
        self._split, self._tokenizer, self._batch, self._begin = split, tokenizer, rows, begin
        self._is_written = is_written
        sources = documents_by_source(split).items()
        left_out = set(too_long(split, context=context))
        of_all = range(split.num_documents)
        shown = {index for index in of_all if split.is_wanted(index) or not is_written} - left_out
        packings = {
            source: pack_split(
                split, context=context, documents=[d for d in documents if d in shown], is_shared=is_shared
            )
            for source, documents in sources
        }
        wanted = shares({source: p.num_rows for source, p in packings.items()}, total=max(1, max_tokens // context))
        self._held = {
            source: Held(
                packing,
                [int(i) for i in np.linspace(0, packing.num_rows - 1, wanted[source]).round()],
                sum(split.document_bytes(int(i)) for i in np.unique(packing.piece_document)),
            )
            for source, packing in packings.items()
            if packing.num_rows
        }

    @property
    def num_rows(self) -> dict[str, int]:
        """How many rows of each source are looked at."""
        return {source: len(held.rows) for source, held in self._held.items()}

    @torch.no_grad()
    def __call__(self, model: Decoder, objective: Objective) -> Look:
        """Bits per byte of text, or of answers that people want; the end token's bytes are none."""
        bits = {source: self._bits(held, model, objective) for source, held in self._held.items()}
        total = sum(held.num_bytes for held in self._held.values())
        whole = sum(bits[source] * held.num_bytes for source, held in self._held.items()) / total
        return Look(whole, bits)

    def _bits(self, held: Held, model: Decoder, objective: Objective) -> float:
        if not self._is_written:
            return self._bits_of_terms(held, model, objective)
        nats, size = 0.0, 0
        device = model.embedding.weight.device
        for start in range(0, len(held.rows), self._batch):
            wanted = held.rows[start : start + self._batch]
            rows = batch(self._split, held.packing, wanted, pad=self._tokenizer.pad, begin=self._begin)
            nats += float(objective(model, to_batch(rows, device=device)).total)
            size += self._num_bytes(rows.targets[rows.targets != IGNORE])
        return nats / math.log(2) / size

    def _bits_of_terms(self, held: Held, model: Decoder, objective: Objective) -> float:
        """All rows are one step: how hard a term is may depend on all of them."""
        starts, device = range(0, len(held.rows), self._batch), model.embedding.weight.device
        parts = [held.rows[start : start + self._batch] for start in starts]
        rows = [batch(self._split, held.packing, part, pad=self._tokenizer.pad, begin=self._begin) for part in parts]
        step = [to_batch(one, device=device) for one in rows]
        objective.begin(model, step)
        found = [objective(model, one) for one in step]
        return sum(float(one.total) for one in found) / math.log(2) / sum(one.num_terms for one in found)

    def _num_bytes(self, ids: npt.NDArray[np.int64]) -> int:
        """A large vocabulary has holes and is used in part, so only what occurs is looked up."""
        found = (column.tolist() for column in np.unique(ids, return_counts=True))
        return sum(len(self._tokenizer.token_bytes(token)) * count for token, count in zip(*found, strict=True))


def documents_by_source(split: TokenSplit) -> dict[str, list[int]]:
    """The documents of each source of the recipe, by the first folder of the place they came from; largest first.

    Those of examples are told apart by their file.
    """
    found: dict[str, list[int]] = {}
    for index in range(split.num_documents):
        place = split.document_source(index).partition("#")[0]
        folder, slash, _ = place.partition("/")
        found.setdefault(folder if slash else place if split.is_learned_in_part else ".", []).append(index)
    sizes = {source: sum(map(split.document_bytes, documents)) for source, documents in found.items()}
    largest = sorted(found, key=lambda source: -sizes[source])
    if len(largest) <= MOST_SOURCES:
        return {source: found[source] for source in largest}
    others = sorted(index for source in largest[MOST_SOURCES - 1 :] for index in found[source])
    return {**{source: found[source] for source in largest[: MOST_SOURCES - 1]}, OTHERS: others}


def shares(sizes: Mapping[str, int], *, total: int) -> dict[str, int]:
    """How many of its rows each source may show: half of `total` is divided equally, half by size.

    What a small source cannot use goes to the larger ones. Each has one row at least, if it has any.
    """
    given: dict[str, int] = {}
    left, waiting, rows_left = total, len(sizes), sum(sizes.values())
    for source in sorted(sizes, key=lambda source: sizes[source]):
        size = sizes[source]
        fair = left / 2 / waiting + left / 2 * size / max(1, rows_left)
        given[source] = min(size, max(1, round(fair)))
        left, waiting, rows_left = max(0, left - given[source]), waiting - 1, rows_left - size
    return given
