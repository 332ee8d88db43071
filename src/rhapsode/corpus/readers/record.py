"""What a reader is given and what it gives.

A reader yields a `Record` for each text and a `Flaw` for each piece that it cannot read, and raises `ReadError` when
the whole file is of no use. Nothing else may leave it, so that every record is accounted for. Formats of many rows can
also be read row by row, as they are: a `Row` instead of a `Record`.
"""

import io
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from rhapsode.corpus.documents import Kind

TOO_LARGE = "larger than max_document_bytes"
NOT_JSON = "not valid JSON"
REST_UNREADABLE = "the rest of the file cannot be read"


class Record(NamedTuple):
    """A text as it was read. `span` says where in the file it stands ("L12"); an empty licence is the source's."""

    text: str
    kind: Kind
    span: str
    licence: str
    meta: dict[str, Any]


class Row(NamedTuple):
    """A JSON value, or the fields of a table's row by name.

    `text` is how it is spelled, "" where it is not text; it begins at `line` and `column`, counted from 1, 0 where the
    file has no lines.
    """

    value: Any
    span: str
    text: str
    line: int
    column: int


class Flaw(NamedTuple):
    """A piece that gave no text: `text` holds what there is of it, to look at; `line`, `column` where that is known."""

    reason: str
    detail: str
    span: str
    text: str
    line: int = 0
    column: int = 0


class ReadError(Exception):
    """The file cannot be read; `reason` is one of few, `detail` is about this file."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


class Opened(NamedTuple):
    """A file, open and decompressed. `name` has no compression suffix. `size` is -1 where it is not known."""

    file: io.BufferedReader
    name: str
    size: int
    kind: Kind
    is_kind_fixed: bool
    text_field: str
    max_bytes: int


Reader = Callable[[Opened], Iterator[Record | Flaw]]
RowReader = Callable[[Opened], Iterator[Row | Flaw]]


def read_whole(opened: Opened) -> bytes | Flaw:
    """All bytes, unless there are more than a document may have."""
    data = b"" if opened.size > opened.max_bytes else opened.file.read(opened.max_bytes + 1)
    if opened.size > opened.max_bytes or len(data) > opened.max_bytes:
        size = opened.size if opened.size >= 0 else f"more than {opened.max_bytes}"
        return Flaw(TOO_LARGE, f"{size} bytes, the most is {opened.max_bytes}", "", "")
    return data
