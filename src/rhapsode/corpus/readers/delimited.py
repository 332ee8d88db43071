"""CSV and TSV with a header line."""

import csv
from collections.abc import Iterator
from itertools import chain

from rhapsode.corpus.readers.fields import flaw, records
from rhapsode.corpus.readers.lines import Line, lines
from rhapsode.corpus.readers.record import TOO_LARGE, Flaw, Opened, ReadError, Record, Row

NO_COLUMN = "no column of that name"
NOT_CSV = "not valid CSV"
_DELIMITERS = ",;\t|"


def read(opened: Opened) -> Iterator[Record | Flaw]:
    """One record a row; `L5` is the line on which the row begins. The delimiter is the header's most frequent one."""
    source = lines(opened, newline="")
    header = next(source, None)
    if header is None:
        return
    names = _names(header)
    if opened.text_field not in names and "messages" not in names:
        raise ReadError(NO_COLUMN, f"no column {opened.text_field!r}; the header has {', '.join(names)[:200]}")
    yield from records(_rows(chain([header], source), opened), opened)


def rows(opened: Opened) -> Iterator[Row | Flaw]:
    """Each row's fields, all of them text."""
    return _rows(lines(opened, newline=""), opened)


def _rows(source: Iterator[Line], opened: Opened) -> Iterator[Row | Flaw]:
    header = next(source, None)
    if header is None:
        return
    names, delimiter = _names(header), _delimiter(header)
    csv.field_size_limit(opened.max_bytes)
    flaws: list[Flaw] = []
    found = csv.reader(_texts(source, opened, flaws), delimiter=delimiter)
    while True:
        first = found.line_num + 2  # the header has been taken; a row begins on the line after the last one
        span = f"L{first}"
        try:
            row = next(found, None)
        except csv.Error as error:
            yield Flaw(NOT_CSV, str(error), span, "", first)
            continue
        yield from flaws
        flaws.clear()
        if row is None:
            return
        if not row:
            continue
        shown = delimiter.join(row)
        if len(row) != len(names):
            detail = f"{len(row)} fields, the header has {len(names)}"
            yield flaw(NOT_CSV, detail, span=span, shown=shown, line=first)
        else:
            yield Row(dict(zip(names, row, strict=True)), span, shown, first, 0)


def _delimiter(header: Line) -> str:
    return max(_DELIMITERS, key=header.text.count)


def _names(header: Line) -> list[str]:
    return next(csv.reader([header.text], delimiter=_delimiter(header)), [])


def _texts(source: Iterator[Line], opened: Opened, flaws: list[Flaw]) -> Iterator[str]:
    """What the csv module may see: a line that is too long becomes an empty one, and a flaw."""
    for line in source:
        if line.is_cut:
            detail = f"the line has more than {opened.max_bytes} characters"
            flaws.append(flaw(TOO_LARGE, detail, span=f"L{line.number}", shown=line.text, line=line.number))
            yield "\n"
        else:
            yield line.text
