"""A corpus as token ids on disk, read without being loaded.

    tokenizer.json ...                          the vocabulary, readable by `Tokenizer.load`
    train-00000.bin ...                         ids, little endian, document after document
    train.index.parquet                         per document: its id, source, shard, start, stop, num_bytes
    validation...                               the same
    report.json, manifest.json

Each document is its text's ids between bos and eos, and lies in one file, so it is one view of mapped memory. Tokens of
examples hold sequences instead: a conversation, or each of two answers with their prompt. What is learned of them lies
beside them (train-00000.learned, a byte for each id), and the index says to which example each belongs, and as what.
"""

from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from rhapsode.core.errors import RhapsodeError, VerificationMismatch
from rhapsode.core.manifest import Manifest, read_manifest
from rhapsode.text.tokenizer import Tokenizer

KIND = "tokens"
SPLITS = ("train", "validation")
MISMATCHED = "mismatched"
"""The role of an answer to something else, which is only looked at."""
UNWANTED = ("rejected", "bad", MISMATCHED)
"""Roles of answers that a model is not meant to give."""

Ids = npt.NDArray[np.unsignedinteger]
Ints = npt.NDArray[np.int64]


class Location(NamedTuple):
    """Where a token came from: the half-open spans of its text in the document, in UTF-8 bytes and in characters.

    A token may hold part of a character; its character span then covers the whole one. bos and eos are empty.
    """

    document: str
    source: str
    byte_span: tuple[int, int]
    char_span: tuple[int, int]


class Tokens:
    """A tokens directory."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest

    @classmethod
    def open(cls, path: Path) -> "Tokens":
        """Open a complete tokens directory.

        Raises:
            RhapsodeError: it is incomplete, or something else.
        """
        return cls(path, read_manifest(path, kind=KIND))

    @property
    def tokenizer_dir(self) -> Path:
        return self.path

    def split(self, name: str) -> "TokenSplit":
        """The documents of "train" or "validation"."""
        if name not in SPLITS:
            raise RhapsodeError(f"{self.path} has no split {name!r}", f"the splits are {' and '.join(SPLITS)}")
        return TokenSplit(self.path, name, dtype=np.dtype(self.manifest.facts["dtype"]))


class TokenSplit:
    """Documents by number, 0 to `num_documents` - 1, and tokens by number, counted over all documents in order."""

    def __init__(self, path: Path, name: str, *, dtype: "np.dtype[np.unsignedinteger]") -> None:
        self._path, self._name, self._dtype = path, name, dtype
        self._index = pq.read_table(path / f"{name}.index.parquet")
        self._shard, self._start, self._stop, self._bytes = (
            self._index[column].to_numpy() for column in ("shard", "start", "stop", "num_bytes")
        )
        self._shards = [self._mapped(shard) for shard in range(self._shard.max(initial=-1) + 1)]
        self.is_learned_in_part = "role" in self._index.column_names
        shards = range(len(self._shards)) if self.is_learned_in_part else ()
        self._learned = [self._mapped_learned(shard) for shard in shards]

    @property
    def num_documents(self) -> int:
        return len(self._start)

    @property
    def num_tokens(self) -> int:
        """All ids, bos and eos included."""
        return int(self.lengths.sum())

    @property
    def num_bytes(self) -> int:
        """UTF-8 bytes of text."""
        return int(self._bytes.sum())

    @cached_property
    def lengths(self) -> Ints:
        """Ids of each document, bos and eos included: what `pack` takes."""
        return np.asarray(self._stop - self._start, dtype=np.int64)

    @cached_property
    def largest(self) -> int:
        """The largest id that occurs; -1 if there is no document."""
        return max((int(shard.max()) for shard in self._shards), default=-1)

    def document(self, index: int) -> Ids:
        """[bos] t1 ... tn [eos], a read-only view of the file."""
        self._check(index)
        ids: Ids = self._shards[self._shard[index]][self._start[index] : self._stop[index]]
        return ids

    def learned(self, index: int) -> "npt.NDArray[np.bool_] | None":
        """For each id of the document whether it is learned; None for a text, of which all is."""
        self._check(index)
        if not self._learned:
            return None
        learned: npt.NDArray[np.bool_] = self._learned[self._shard[index]][self._start[index] : self._stop[index]]
        return learned

    @cached_property
    def examples(self) -> Ints:
        """The number of each sequence's example; those of one example follow each other."""
        return np.asarray(self._index["example"].to_numpy(), dtype=np.int64)

    @cached_property
    def roles(self) -> list[str]:
        """What each sequence is to its example: answer, chosen, rejected, good, bad or mismatched; of text none."""
        return self._index["role"].to_pylist() if self.is_learned_in_part else []

    def role(self, index: int) -> str:
        """That of one of them."""
        self._check(index)
        return self.roles[index]

    def is_wanted(self, index: int) -> bool:
        """Whether a model is meant to say it: every text, and of sequences all but the `UNWANTED`."""
        return not self.is_learned_in_part or self.roles[index] not in UNWANTED

    def document_bytes(self, index: int) -> int:
        """UTF-8 bytes of the document's text; of a sequence, those that are learned."""
        self._check(index)
        return int(self._bytes[index])

    def document_id(self, index: int) -> str:
        self._check(index)
        return str(self._index["document"][index].as_py())

    def document_source(self, index: int) -> str:
        self._check(index)
        return str(self._index["source"][index].as_py())

    def locate(self, token: int, tokenizer: Tokenizer) -> Location:
        """Where in the corpus the split's token number `token` came from."""
        if not 0 <= token < self.num_tokens:
            raise IndexError(f"token {token} of {self.num_tokens}")
        index = int(np.searchsorted(self._ends, token, side="right"))
        place = token - int(self._ends[index] - self.lengths[index])
        ids = self.document(index).tolist()
        before, own = tokenizer.decode_bytes(ids[:place]), tokenizer.token_bytes(ids[place])
        byte_span = (len(before), len(before) + len(own))
        return Location(self.document_id(index), self.document_source(index), byte_span, _char_span(before, own))

    @cached_property
    def _ends(self) -> Ints:
        return np.cumsum(self.lengths)

    def _mapped(self, shard: int) -> Ids:
        file = self._path / f"{self._name}-{shard:05d}.bin"
        tokens = int(self._stop[self._shard == shard].max())
        size = file.stat().st_size if file.is_file() else 0
        if size != tokens * self._dtype.itemsize:
            raise VerificationMismatch(
                f"{file} has {size} bytes, its index says {tokens * self._dtype.itemsize}",
                "restore it, or make the tokens again",
            )
        return np.memmap(file, dtype=self._dtype, mode="r")

    def _mapped_learned(self, shard: int) -> "npt.NDArray[np.bool_]":
        file = self._path / f"{self._name}-{shard:05d}.learned"
        found = np.memmap(file, dtype=np.bool_, mode="r")
        if len(found) != len(self._shards[shard]):
            raise VerificationMismatch(
                f"{file} has {len(found)} bytes for {len(self._shards[shard])} tokens", "make the tokens again"
            )
        return found

    def _check(self, index: int) -> None:
        if not 0 <= index < self.num_documents:
            raise IndexError(f"document {index} of {self.num_documents}")


def _char_span(before: bytes, own: bytes) -> tuple[int, int]:
    started, more = _characters(before), _characters(own)
    is_inside = bool(own) and not _characters(own[:1])
    return started - is_inside, started + more


def _characters(text: bytes) -> int:
    """How many UTF-8 characters begin in `text`: every byte but 10xxxxxx begins one."""
    return int(np.count_nonzero(np.frombuffer(text, dtype=np.uint8) & 0xC0 != 0x80))
