"""Writing token ids: files of limited size, and the index that says where each document lies."""

import contextlib
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

_INDEX = pa.schema(
    [
        ("document", pa.string()),
        ("source", pa.string()),
        ("shard", pa.int32()),
        ("start", pa.int64()),
        ("stop", pa.int64()),
        ("num_bytes", pa.int64()),
    ]
)
_INDEX_OF_EXAMPLES = pa.schema([*_INDEX, ("example", pa.int64()), ("role", pa.string())])
_INDEX_ROWS = 65_536


class Entry(NamedTuple):
    """A document's ids, bos and eos included; or a sequence of an example, with what is learned of it.

    Attributes:
        learned: for each id; None is a text, of which all is.
        example: the example's number in its split.
        role: what the sequence is to it.
    """

    ids: list[int]
    document: str
    source: str
    num_bytes: int
    learned: list[bool] | None = None
    example: int = 0
    role: str = ""


def token_dtype(vocab_size: int) -> "np.dtype[np.unsignedinteger]":
    """The smallest that holds every id."""
    return np.dtype("<u2" if vocab_size <= 2**16 else "<u4")


class TokenWriter:
    """Writes one split. A document never lies in two files; one longer than `shard_tokens` has a file of its own.

    Where `has_learned`, what is learned lies in a file beside each.
    """

    def __init__(
        self, directory: Path, split: str, *, vocab_size: int, shard_tokens: int, has_learned: bool = False
    ) -> None:
        self.num_shards = 0
        self._directory, self._split = directory, split
        self._dtype = token_dtype(vocab_size)
        self._limit = shard_tokens
        self._file: BinaryIO | None = None
        self._learned: BinaryIO | None = None
        self._schema = _INDEX_OF_EXAMPLES if has_learned else _INDEX
        self._tokens = 0  # in the present file
        self._rows: list[tuple[Any, ...]] = []
        self._index = pq.ParquetWriter(directory / f"{split}.index.parquet", self._schema)

    def add(self, entry: Entry) -> None:
        file, ids = self._file, entry.ids
        if file is None or self._tokens + len(ids) > self._limit:
            file = self._next()
        file.write(np.array(ids, dtype=self._dtype).tobytes())
        stop = self._tokens + len(ids)
        row = (entry.document, entry.source, self.num_shards - 1, self._tokens, stop, entry.num_bytes)
        if self._learned is not None:
            self._learned.write(bytes(entry.learned or [True] * len(ids)))
        self._rows.append((*row, entry.example, entry.role)[: len(self._schema)])
        self._tokens = stop
        if len(self._rows) >= _INDEX_ROWS:
            self._write_rows()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._close_files()
            self._write_rows()
            self._index.close()
            return
        # The directory will be thrown away; a full disk must not hide the first error behind a second one.
        with contextlib.suppress(OSError):
            self._close_files()
        with contextlib.suppress(OSError):
            self._index.close()

    def _next(self) -> BinaryIO:
        self._close_files()
        path = self._directory / f"{self._split}-{self.num_shards:05d}.bin"
        self._file = path.open("wb")
        if self._schema is _INDEX_OF_EXAMPLES:
            self._learned = path.with_suffix(".learned").open("wb")
        self.num_shards += 1
        self._tokens = 0
        return self._file

    def _close_files(self) -> None:
        for file in (self._file, self._learned):
            if file is not None:
                file.close()

    def _write_rows(self) -> None:
        columns = list(zip(*self._rows, strict=True)) or [()] * len(self._schema)
        arrays = [pa.array(column, field.type) for column, field in zip(columns, self._schema, strict=True)]
        self._index.write_table(pa.Table.from_arrays(arrays, schema=self._schema))
        self._rows.clear()
