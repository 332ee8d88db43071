"""The rows of a file, as they are: JSON lines, a JSON list, CSV, TSV or Parquet, compressed or not.

Tables of text cannot hold lists or true and false, so people write them as text; in fields that have them they are
read.
"""

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rhapsode.core.errors import RhapsodeError
from rhapsode.corpus.decompress import check, opened
from rhapsode.corpus.digests import prefix_sha256
from rhapsode.corpus.readers.record import REST_UNREADABLE, Flaw, Opened, ReadError, Row
from rhapsode.corpus.readers.registry import FORMATS, compression_of, format_of, row_reader_of, without_compression

_LISTS = frozenset({"messages", "conversations", "tools", "history"})
_MAY_BE_LISTS = frozenset({"prompt", "completion", "chosen", "rejected"})
_TRUTH = {"true": True, "false": False}


def read_rows(path: Path, *, max_bytes: int) -> Iterator[Row | Flaw]:
    """Every row of a file, or what is wrong with it. `max_bytes` is the most that a row may have.

    Raises:
        RhapsodeError: the file is not there, of no format that has rows, or cannot be read from its beginning on.
    """
    format_, compression = format_of(path.name), compression_of(path.name)
    if format_ is None or not format_.has_rows:
        known = ", ".join(f".{suffix}" for suffix, format_ in FORMATS.items() if format_.has_rows)
        raise RhapsodeError(
            f"{path}: a file of examples has rows, and its name says how: {known}", "rename it, or convert it"
        )
    size, number = _size(path), 0
    try:
        if compression:
            check(str(path), size=size, compression=compression)
        with opened(str(path), size=size, compression=compression) as stream:
            name = without_compression(path.name)
            given = Opened(stream, name, -1 if compression else size, "prose", True, "text", max_bytes)  # noqa: FBT003
            for row in row_reader_of(format_)(given):
                number += 1
                yield _typed(row) if format_.name in ("csv", "tsv") and isinstance(row, Row) else row
    except (ReadError, csv.Error, UnicodeError) as error:
        reason = f"{error.reason}: {error.detail}" if isinstance(error, ReadError) else str(error)
        if number == 0:
            raise RhapsodeError(f"{path}: {reason}", "restore the file, or correct its name") from error
        yield Flaw(REST_UNREADABLE, reason, f"after {number}", "")


def digest_of(path: Path) -> str:
    """The sha256 of the file.

    Raises:
        RhapsodeError: it cannot be read.
    """
    try:
        return prefix_sha256(str(path), size=_size(path))
    except ReadError as error:
        raise RhapsodeError(f"{path}: {error.reason}", "restore the file") from error


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise RhapsodeError(f"{path}: {error.strerror or error}", "name a file of examples") from None


def _typed(row: Row) -> Row:
    assert isinstance(row.value, Mapping)
    return row._replace(value={name: _cell(name, text) for name, text in row.value.items()})


def _cell(name: str, text: str) -> Any:
    if name == "label":
        return _TRUTH.get(text.lower(), text)
    if text[:1] not in ("[", "{") or name not in _LISTS | _MAY_BE_LISTS:
        return None if name in _LISTS and not text else text
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if name in _LISTS or _holds_turns(value) else text


def _holds_turns(value: object) -> bool:
    first = value[0] if isinstance(value, list) and value else value
    return isinstance(first, Mapping) and not first.keys().isdisjoint({"role", "from"})
