"""A fixed sample of documents: which ones depends on their ids alone, not on their order, a seed or the machine."""

import hashlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rhapsode.corpus.documents import Document


class Sizes(NamedTuple):
    """Of documents in order: the hash of the id and the UTF-8 bytes of the text."""

    hashes: npt.NDArray[np.uint64]
    num_bytes: npt.NDArray[np.int64]

    @property
    def total(self) -> int:
        return int(self.num_bytes.sum())


def measure(documents: Iterable[Document]) -> Sizes:
    hashes, sizes = [], []
    for document in documents:
        hashes.append(hashlib.blake2b(document.id.encode(), digest_size=8).digest())
        sizes.append(len(document.text.encode()))
    return Sizes(np.frombuffer(b"".join(hashes), dtype="<u8").astype(np.uint64), np.array(sizes, dtype=np.int64))


def choose(sizes: Sizes, *, num_bytes: int) -> npt.NDArray[np.bool_]:
    """Which documents to take for at most `num_bytes` of text: the lowest hashes first, and always at least one."""
    lowest_first = np.argsort(sizes.hashes, kind="stable")
    count = np.searchsorted(np.cumsum(sizes.num_bytes[lowest_first]), num_bytes, side="right")
    chosen = np.zeros(len(sizes.hashes), dtype=np.bool_)
    chosen[lowest_first[: max(1, int(count))]] = True
    return chosen


def take(documents: Iterable[Document], chosen: npt.NDArray[np.bool_]) -> Iterator[Document]:
    return (document for document, is_chosen in zip(documents, chosen, strict=True) if is_chosen)
