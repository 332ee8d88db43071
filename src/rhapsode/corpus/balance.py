"""The end of the split: no side is left empty when there are two groups, and what came out is counted."""

from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq

from rhapsode.corpus.config import SplitConfig
from rhapsode.corpus.shards import DOCUMENTS, Shards
from rhapsode.corpus.split import SIDES, Side, crossing

_BATCH = 64


class Count(NamedTuple):
    """What lies on one side."""

    documents: int
    groups: int
    text_bytes: int


class Balance(NamedTuple):
    """Both sides, whether a group crossed over, and how many texts stand on both (0 after deduplication)."""

    sides: dict[Side, Count]
    has_moved: bool
    shared_texts: int


def balance(
    folder: Path,
    split: SplitConfig,
    *,
    positions: Mapping[Side, "array[int]"],
    texts: Mapping[Side, "array[int]"],
    sizes: Mapping[Side, "array[int]"],
) -> Balance:
    """Let a group cross over where the hash left a side empty, and count.

    Args:
        folder: where the shards of both sides lie.
        split: how they were split.
        positions: of each row, its group's place in the split.
        texts: of each row, a digest of its text.
        sizes: of each row, the length of its text in bytes.
    """
    at = {side: np.array(positions[side], np.uint64) for side in SIDES}
    digests = {side: np.array(texts[side], np.uint64) for side in SIDES}
    lengths = {side: np.array(sizes[side], np.uint64) for side in SIDES}
    group = crossing(at["train"], at["validation"], share=split.validation)
    if group is not None:
        full: Side = "train" if len(at["train"]) else "validation"
        empty: Side = "validation" if full == "train" else "train"
        crosses = at[full] == np.uint64(group)
        _rewrite(folder, full, empty, crosses)
        for values in (at, digests, lengths):
            values[full], values[empty] = values[full][~crosses], values[full][crosses]
    shared = len(np.intersect1d(digests["train"], digests["validation"]))
    counts = {side: Count(len(at[side]), len(np.unique(at[side])), int(lengths[side].sum())) for side in SIDES}
    return Balance(counts, group is not None, shared)


def _rewrite(folder: Path, full: Side, empty: Side, crosses: Any) -> None:
    """Deal the rows of the full side out again."""
    aside = folder / "aside"
    aside.mkdir()
    for side in SIDES:
        for file in folder.glob(f"{side}-*.parquet"):
            file.rename(aside / file.name)
    number = 0
    with Shards(folder, full, DOCUMENTS) as stays, Shards(folder, empty, DOCUMENTS) as goes:
        for file in sorted(aside.glob(f"{full}-*.parquet")):
            with pq.ParquetFile(file) as table:
                for batch in table.iter_batches(batch_size=_BATCH):
                    for row in batch.to_pylist():
                        shards = goes if crosses[number] else stays
                        shards.add(tuple(row.values()), size=len(row["text"].encode()))
                        number += 1
    for file in aside.iterdir():
        file.unlink()
    aside.rmdir()
