"""Documents written as Parquet, in bounded memory and always in the same bytes."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

DOCUMENTS = pa.schema([(name, pa.string()) for name in ("id", "text", "source", "licence", "meta")])
DROPPED = pa.schema([*DOCUMENTS, *[(name, pa.string()) for name in ("stage", "reason", "detail")]])
FILES = pa.schema(
    [
        *[(name, pa.string()) for name in ("source", "file", "format")],
        ("bytes", pa.int64()),
        *[(name, pa.string()) for name in ("sha256", "skipped", "detail")],
        ("read", pa.int64()),
        ("kept", pa.int64()),
    ]
)

GROUP_BYTES = 8 << 20
FILE_BYTES = 256 << 20
_ROW_COST = 256
_BATCH = 64


def read_shards(folder: Path, prefix: str) -> Iterator[dict[str, Any]]:
    """The rows that `Shards` has written, in their order, a few at a time."""
    for file in sorted(folder.glob(f"{prefix}-*.parquet")):
        with pq.ParquetFile(file) as table:
            for batch in table.iter_batches(batch_size=_BATCH):
                yield from batch.to_pylist()


@contextlib.contextmanager
def put_aside(folder: Path, *prefixes: str) -> Iterator[Path]:
    """The shards of these prefixes in a folder of their own, to write others from; gone at the end."""
    aside = folder / "aside"
    aside.mkdir()
    for prefix in prefixes:
        for file in folder.glob(f"{prefix}-*.parquet"):
            file.rename(aside / file.name)
    yield aside
    for file in aside.iterdir():
        file.unlink()
    aside.rmdir()


class Shards:
    """Writes rows to `PREFIX-00000.parquet`, `PREFIX-00001.parquet`, ...; at least one file, even without rows."""

    def __init__(self, folder: Path, prefix: str, schema: pa.Schema) -> None:
        self.num_rows = 0
        self._folder = folder
        self._prefix = prefix
        self._schema = schema
        self._rows: list[tuple[Any, ...]] = []
        self._bytes_in_group = 0
        self._bytes_in_file = 0
        self._num_files = 0
        self._file: IO[bytes] | None = None
        self._writer: pq.ParquetWriter | None = None

    def add(self, row: tuple[Any, ...], *, size: int) -> None:
        """`row` has the fields of the schema in their order; `size` is about how many bytes it takes."""
        self._rows.append(row)
        self.num_rows += 1
        self._bytes_in_group += size + _ROW_COST
        if self._bytes_in_group >= GROUP_BYTES:
            self._flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                if self._rows or self._num_files == 0:
                    self._flush()
                self._close()
        finally:
            # After an error the directory is thrown away: no footer, neither now nor when the writer is collected.
            if self._writer and self._file:
                self._writer.is_open = False
                with contextlib.suppress(OSError):
                    self._file.close()

    def _flush(self) -> None:
        if self._writer is None:
            self._open()
        assert self._writer
        arrays = [
            pa.array([row[column] for row in self._rows], field.type) for column, field in enumerate(self._schema)
        ]
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema))
        self._bytes_in_file += self._bytes_in_group
        self._rows, self._bytes_in_group = [], 0
        if self._bytes_in_file >= FILE_BYTES:
            self._close()

    def _open(self) -> None:
        self._folder.mkdir(exist_ok=True)
        self._file = (self._folder / f"{self._prefix}-{self._num_files:05d}.parquet").open("wb")
        self._writer = pq.ParquetWriter(self._file, self._schema, compression="zstd")
        self._num_files += 1
        self._bytes_in_file = 0

    def _close(self) -> None:
        if self._writer and self._file:
            self._writer.close()
            self._file.close()
        self._writer = self._file = None
