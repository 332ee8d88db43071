"""Writing token ids: files of limited size, and the index that says where each document lies."""

import contextlib
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

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
_INDEX_ROWS = 65_536


def token_dtype(vocab_size: int) -> "np.dtype[np.unsignedinteger]":
    """The smallest that holds every id."""
    return np.dtype("<u2" if vocab_size <= 2**16 else "<u4")


class TokenWriter:
    """Writes one split. A document never lies in two files; one longer than `shard_tokens` has a file of its own."""

    def __init__(self, directory: Path, split: str, *, vocab_size: int, shard_tokens: int) -> None:
        self.num_shards = 0
        self._directory, self._split = directory, split
        self._dtype = token_dtype(vocab_size)
        self._limit = shard_tokens
        self._file: BinaryIO | None = None
        self._tokens = 0  # in the present file
        self._rows: list[tuple[Any, ...]] = []
        self._index = pq.ParquetWriter(directory / f"{split}.index.parquet", _INDEX)

    def add(self, ids: list[int], *, document: str, source: str, num_bytes: int) -> None:
        """Append a document's ids, bos and eos included."""
        file = self._file
        if file is None or self._tokens + len(ids) > self._limit:
            file = self._next()
        file.write(np.array(ids, dtype=self._dtype).tobytes())
        stop = self._tokens + len(ids)
        self._rows.append((document, source, self.num_shards - 1, self._tokens, stop, num_bytes))
        self._tokens = stop
        if len(self._rows) >= _INDEX_ROWS:
            self._write_rows()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            if self._file is not None:
                self._file.close()
            self._write_rows()
            self._index.close()
            return
        # The directory will be thrown away; a full disk must not hide the first error behind a second one.
        with contextlib.suppress(OSError):
            if self._file is not None:
                self._file.close()
        with contextlib.suppress(OSError):
            self._index.close()

    def _next(self) -> BinaryIO:
        if self._file is not None:
            self._file.close()
        self._file = (self._directory / f"{self._split}-{self.num_shards:05d}.bin").open("wb")
        self.num_shards += 1
        self._tokens = 0
        return self._file

    def _write_rows(self) -> None:
        columns = list(zip(*self._rows, strict=True)) or [()] * len(_INDEX)
        arrays = [pa.array(column, field.type) for column, field in zip(columns, _INDEX, strict=True)]
        self._index.write_table(pa.Table.from_arrays(arrays, schema=_INDEX))
        self._rows.clear()
