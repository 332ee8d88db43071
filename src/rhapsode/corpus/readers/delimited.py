"""CSV and TSV with a header line."""

import csv
from collections.abc import Iterator

from rhapsode.corpus.readers.fields import flaw, record_of
from rhapsode.corpus.readers.lines import Line, lines
from rhapsode.corpus.readers.record import TOO_LARGE, Flaw, Opened, ReadError, Record

NO_COLUMN = "no column of that name"
NOT_CSV = "not valid CSV"
_DELIMITERS = ",;\t|"


def read(opened: Opened) -> Iterator[Record | Flaw]:
    """One record a row; `L5` is the line on which the row begins. The delimiter is the header's most frequent one."""
    source = lines(opened, newline="")
    header = next(source, None)
    if header is None:
        return
    delimiter = max(_DELIMITERS, key=header.text.count)
    names = next(csv.reader([header.text], delimiter=delimiter), [])
    if opened.text_field not in names and "messages" not in names:
        raise ReadError(NO_COLUMN, f"no column {opened.text_field!r}; the header has {', '.join(names)[:200]}")
    yield from _rows(source, opened, names, delimiter)


def _rows(source: Iterator[Line], opened: Opened, names: list[str], delimiter: str) -> Iterator[Record | Flaw]:
    csv.field_size_limit(opened.max_bytes)
    flaws: list[Flaw] = []
    rows = csv.reader(_texts(source, opened, flaws), delimiter=delimiter)
    while True:
        first = rows.line_num + 2  # the header has been taken; a row begins on the line after the last one
        try:
            row = next(rows, None)
        except csv.Error as error:
            yield Flaw(NOT_CSV, str(error), f"L{first}", "")
            continue
        yield from flaws
        flaws.clear()
        if row is None:
            return
        if not row:
            continue
        shown = delimiter.join(row)
        span = f"L{first}"
        if len(row) != len(names):
            detail = f"{len(row)} fields, the header has {len(names)}"
            yield flaw(NOT_CSV, detail, span=span, shown=shown)
        else:
            yield record_of(dict(zip(names, row, strict=True)), opened, span=span, shown=shown)


def _texts(source: Iterator[Line], opened: Opened, flaws: list[Flaw]) -> Iterator[str]:
    """What the csv module may see: a line that is too long becomes an empty one, and a flaw."""
    for line in source:
        if line.is_cut:
            detail = f"the line has more than {opened.max_bytes} characters"
            flaws.append(flaw(TOO_LARGE, detail, span=f"L{line.number}", shown=line.text))
            yield "\n"
        else:
            yield line.text
