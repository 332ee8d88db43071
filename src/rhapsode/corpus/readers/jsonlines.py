"""JSON: one object a line, a list of objects, or one object."""

import io
import json
from collections.abc import Iterator
from typing import Any

from rhapsode.corpus.encoding import decode, sniff
from rhapsode.corpus.readers.fields import flaw, records
from rhapsode.corpus.readers.lines import lines
from rhapsode.corpus.readers.record import (
    NOT_JSON,
    REST_UNREADABLE,
    TOO_LARGE,
    Flaw,
    Opened,
    ReadError,
    Record,
    Row,
    read_whole,
)

_SPACES = " \t\r\n"
_STEP = 1 << 20


def read_jsonl(opened: Opened) -> Iterator[Record | Flaw]:
    """One record a line; empty lines are passed over."""
    return records(jsonl_rows(opened), opened)


def read_json(opened: Opened) -> Iterator[Record | Flaw]:
    """A list of records, streamed; one record; or, as many a .json file is, one record a line."""
    return records(json_rows(opened), opened)


def jsonl_rows(opened: Opened) -> Iterator[Row | Flaw]:
    """One row a line; empty lines are passed over."""
    for line in lines(opened):
        span = f"L{line.number}"
        if line.is_cut:
            detail = f"the line has more than {opened.max_bytes} characters"
            yield flaw(TOO_LARGE, detail, span=span, shown=line.text, line=line.number)
        elif line.text.strip(_SPACES):
            yield _row(line.text, span, line.number)


def json_rows(opened: Opened) -> Iterator[Row | Flaw]:
    """A list of rows, streamed; one row; or one row a line."""
    head = opened.file.peek(_STEP)
    text = head.decode(sniff(head, name=opened.name), "replace").lstrip("\ufeff" + _SPACES)
    if text.startswith("["):
        yield from _list(opened)
    elif _is_object(text.partition("\n")[0]):
        yield from jsonl_rows(opened)
    else:
        data = read_whole(opened)
        yield data if isinstance(data, Flaw) else _row(decode(data, name=opened.name).text, "", 1)


def _row(text: str, span: str, line: int) -> Row | Flaw:
    try:
        return Row(json.loads(text), span, text, line, 1)
    except json.JSONDecodeError as error:
        # What breaks off does so at the end of its own line, not at the beginning of the next.
        at = json.JSONDecodeError(error.msg, text, min(error.pos, len(text.rstrip("\r\n"))))
        return flaw(NOT_JSON, _say(at), span=span, shown=text, line=line + at.lineno - 1, column=at.colno)
    except (ValueError, RecursionError) as error:
        return flaw(NOT_JSON, _say(error), span=span, shown=text, line=line)


def _say(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"column {error.colno}: {error.msg}"
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)[:200]


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _list(opened: Opened) -> Iterator[Row | Flaw]:
    """The elements of a list, one at a time. After the first that cannot be read nothing can be trusted."""
    elements = _Elements(opened)
    number = 0
    try:
        for number, (row, text, line, column) in enumerate(elements, 1):
            yield Row(row, f"R{number}", text, line, column)
    except (ValueError, RecursionError) as error:
        detail = f"element {number + 1}: {_say(error)}"
        if number == 0:
            raise ReadError(NOT_JSON, detail) from error
        at = error.pos if isinstance(error, json.JSONDecodeError) else None
        yield Flaw(REST_UNREADABLE, detail, f"R{number + 1}", "", *elements.place(at))


class _Elements:
    """Iterates over the elements of a JSON list and holds little more than one of them."""

    def __init__(self, opened: Opened) -> None:
        encoding = sniff(opened.file.peek(_STEP), name=opened.name)
        self._file = io.TextIOWrapper(opened.file, encoding, errors="replace", newline="\n")
        self._limit = opened.max_bytes
        self._decoder = json.JSONDecoder()
        self._buffer = ""
        self._at = 0
        self._line, self._column, self._counted = 1, 1, 0

    def __iter__(self) -> Iterator[tuple[Any, str, int, int]]:
        if self._next() == "\ufeff":
            self._at += 1
            self._next()
        self._at += 1  # the opening bracket
        if self._next() == "]":
            return self._finish()
        while True:
            start = self._at
            line, column = self.place()
            yield (*self._element(start), line, column)
            mark = self._next()
            self._at += 1
            if mark == "]":
                return self._finish()
            if mark != ",":
                raise ValueError(f"expected ',' or ']', got {mark!r}" if mark else "the file ends inside the list")
            self._next()

    def place(self, at: int | None = None) -> tuple[int, int]:
        """Line and column of a place in the buffer, by default of where reading is."""
        at = self._at if at is None else at
        if at < self._counted:
            return self._line, self._column
        line, column = self._behind(at)
        if at <= self._at:
            self._line, self._column, self._counted = line, column, at
        return line, column

    def _behind(self, at: int) -> tuple[int, int]:
        num_ends = self._buffer.count("\n", self._counted, at)
        if not num_ends:
            return self._line, self._column + at - self._counted
        return self._line + num_ends, at - self._buffer.rfind("\n", self._counted, at)

    def _element(self, start: int) -> tuple[Any, str]:
        """Decode at `start`. What fails may only be cut off: try again with twice as much, up to the limit."""
        while True:
            try:
                value, end = self._decoder.raw_decode(self._buffer, start)
            except ValueError:
                if len(self._buffer) - start > self._limit:
                    raise ValueError(f"not JSON, or larger than {self._limit} characters") from None
                if not self._more(len(self._buffer) - start):
                    raise
                start = self._at
                continue
            if end < len(self._buffer) or not self._more(_STEP):
                text = self._buffer[start : min(end, start + _STEP)]
                self._at = end
                return value, text
            start = self._at

    def _next(self) -> str:
        """The next character that is not a space, or "" at the end of the file."""
        while True:
            while self._at < len(self._buffer):
                if self._buffer[self._at] not in _SPACES:
                    return self._buffer[self._at]
                self._at += 1
            if not self._more(_STEP):
                return ""

    def _more(self, count: int) -> bool:
        """Read on and forget what has been passed; false at the end of the file."""
        piece = self._file.read(max(count, _STEP))
        if piece:
            self.place()
            self._buffer = self._buffer[self._at :] + piece
            self._at = self._counted = 0
        return bool(piece)

    def _finish(self) -> None:
        if self._next():
            raise ValueError("something follows the list")
