"""Parquet, a few rows at a time. For texts only the columns that a record can hold are read."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from rhapsode.corpus.readers.delimited import NO_COLUMN
from rhapsode.corpus.readers.fields import MESSAGES, record_of
from rhapsode.corpus.readers.record import REST_UNREADABLE, TOO_LARGE, Flaw, Opened, ReadError, Record, Row

NOT_PARQUET = "not valid Parquet"
_ROWS = 64
_LARGEST_EXPANSION = 64


def read(opened: Opened) -> Iterator[Record | Flaw]:
    """One record a row; `R5` is the fifth row."""
    for row in _rows(opened, lambda schema: _columns(schema, opened)):
        yield row if isinstance(row, Flaw) else _record(row.value, opened, row.span)


def rows(opened: Opened) -> Iterator[Row | Flaw]:
    """Each row with all its columns."""
    return _rows(opened, lambda schema: schema.names)


def _rows(opened: Opened, columns: Callable[[pa.Schema], list[str]]) -> Iterator[Row | Flaw]:
    number = 0
    with _seekable(opened) as file:
        try:
            with pq.ParquetFile(file, pre_buffer=False) as table:
                for batch in table.iter_batches(batch_size=_ROWS, columns=columns(table.schema_arrow)):
                    for row in batch.to_pylist():
                        number += 1
                        yield Row(row, f"R{number}", "", 0, 0)
        except (pa.ArrowException, OSError) as error:
            if number == 0:
                raise ReadError(NOT_PARQUET, str(error)[:200]) from error
            yield Flaw(REST_UNREADABLE, str(error)[:200], f"R{number + 1}", "")


def _record(row: dict[str, Any], opened: Opened, span: str) -> Record | Flaw:
    text = row.get(opened.text_field)
    if isinstance(text, bytes):
        row[opened.text_field] = text = text.decode("utf-8", "replace")
    if isinstance(text, str) and len(text) > opened.max_bytes:
        return Flaw(TOO_LARGE, f"the text has {len(text)} characters, the most is {opened.max_bytes}", span, "")
    return record_of(row, opened, span=span, shown=str(row))


def _columns(schema: pa.Schema, opened: Opened) -> list[str]:
    if opened.text_field not in schema.names and MESSAGES not in schema.names:
        raise ReadError(NO_COLUMN, f"no column {opened.text_field!r}; there are {', '.join(schema.names)[:200]}")
    return [field.name for field in schema if field.name in (opened.text_field, MESSAGES) or _is_plain(field.type)]


def _is_plain(kind: pa.DataType) -> bool:
    types = pa.types
    if types.is_dictionary(kind):
        kind = kind.value_type
    tests = (types.is_boolean, types.is_integer, types.is_floating, types.is_string, types.is_large_string)
    return any(test(kind) for test in tests)


@contextlib.contextmanager
def _seekable(opened: Opened) -> Iterator[IO[bytes]]:
    """Parquet begins at its end: a compressed file is unpacked to disk first, up to a limit."""
    if opened.size >= 0:
        yield opened.file
        return
    with tempfile.TemporaryFile() as unpacked:
        left = _LARGEST_EXPANSION * opened.max_bytes
        while piece := opened.file.read(1 << 20):
            left -= len(piece)
            if left < 0:
                raise ReadError(TOO_LARGE, f"unpacked it has more than {_LARGEST_EXPANSION} times that")
            unpacked.write(piece)
        unpacked.seek(0)
        yield unpacked
