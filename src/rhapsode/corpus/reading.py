"""From a file to its records, whatever is wrong with it.

A file that cannot be read at all raises `ReadError` before its first record. What breaks later, breaks as a `Flaw`, so
that nothing which was believed has to be taken back.
"""

import csv
import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

from rhapsode.core.errors import RhapsodeError
from rhapsode.corpus.config import Source
from rhapsode.corpus.decompress import check, opened
from rhapsode.corpus.digests import prefix_sha256
from rhapsode.corpus.readers.record import REST_UNREADABLE, Flaw, Opened, ReadError, Record
from rhapsode.corpus.readers.registry import reader_of, without_compression
from rhapsode.corpus.sources import InputFile


class Fingerprint(NamedTuple):
    """What a file was when its digest was taken."""

    sha256: str
    changed_ns: int


def fingerprint(file: InputFile, *, count: Callable[[int], None]) -> Fingerprint:
    """The digest of the file's bytes as far as they are read.

    Raises:
        ReadError: it cannot be read.
    """
    changed_ns = _changed_ns(file)
    return Fingerprint(prefix_sha256(file.path, size=file.size, count=count), changed_ns)


def records(
    file: InputFile, *, source: Source, max_bytes: int, count: Callable[[int], None]
) -> Iterator[Record | Flaw]:
    """Every record of a file.

    Raises:
        ReadError: it cannot be read; there has been no record.
    """
    if file.compression and file.format.has_rows:
        check(file.path, size=file.size, compression=file.compression)
    number = 0
    try:
        with opened(file.path, size=file.size, compression=file.compression, count=count) as stream:
            given = Opened(
                file=stream,
                name=without_compression(file.place),
                size=-1 if file.compression else file.size,
                kind=file.format.kind if source.kind == "auto" else source.kind,
                is_kind_fixed=source.kind != "auto",
                text_field=source.text_field,
                max_bytes=max_bytes,
            )
            for record in reader_of(file.format)(given):
                number += 1
                yield record
    except (ReadError, csv.Error, UnicodeError) as error:
        problem = error if isinstance(error, ReadError) else ReadError(f"not valid {file.format.name}", str(error))
        if number == 0:
            raise problem from error
        yield Flaw(REST_UNREADABLE, f"{problem.reason}: {problem.detail}", f"after {number}", "")


def refuse_changed(file: InputFile, was: Fingerprint) -> None:
    """A file may grow at its end while it is read; what was read must be what was fingerprinted.

    Raises:
        RhapsodeError: it is not.
    """
    try:
        if _changed_ns(file) == was.changed_ns or prefix_sha256(file.path, size=file.size) == was.sha256:
            return
    except (OSError, ReadError):
        pass
    raise RhapsodeError(f"{file.path} changed while it was read", "stop what writes to it, or read a copy of it")


def _changed_ns(file: InputFile) -> int:
    try:
        return os.stat(file.path).st_mtime_ns  # noqa: PTH116 - of 10^5 files, and Path is slow
    except OSError as error:
        raise ReadError("cannot be read", error.strerror or str(error)) from error
