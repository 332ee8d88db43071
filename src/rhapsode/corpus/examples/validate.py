"""A file of examples, looked at whole before anything is spent on it.

Every row is read, converted and checked. What is wrong is told with its line, column and mend, and the file is refused;
whoever would rather do without the rows that are wrong says so, and each of them is written down with its reason. A
file that was found good gives its examples as often as asked, as long as it stays the same to the byte.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from rhapsode.core.errors import RhapsodeError
from rhapsode.core.units import MiB
from rhapsode.core.yaml import format_key
from rhapsode.corpus.examples.checks import problems
from rhapsode.corpus.examples.column import place_of
from rhapsode.corpus.examples.columns import Columns, columns_of
from rhapsode.corpus.examples.example import Example
from rhapsode.corpus.examples.fault import (
    OTHER_SHAPE,
    UNREADABLE,
    Fault,
    Misshapen,
    Problem,
)
from rhapsode.corpus.examples.repeats import Repeats
from rhapsode.corpus.examples.rows import digest_of, read_rows
from rhapsode.corpus.examples.shapes.registry import Numbered, names_of, recognise, shape_named
from rhapsode.corpus.examples.shapes.shape import Shape, unread
from rhapsode.corpus.readers.record import NOT_JSON, REST_UNREADABLE, Flaw, Row

SHOWN = 20
_FIRST_ROWS = 64


class Found(NamedTuple):
    """What a row turned out to be: an example without faults, or the faults."""

    number: int
    example: Example | None
    faults: list[Fault]
    group: str | None = None


class Good(NamedTuple):
    """An example, the number of its row, and what it belongs to, where a column says so."""

    number: int
    example: Example
    group: str | None


@dataclass
class Validated:
    """A file whose every row was looked at.

    Attributes:
        shape: the name of the shape that it has.
        columns: how its columns become fields of that shape.
        digest: sha256 of the file.
        num_rows: rows read; `num_examples` of them are good.
        faults: the first few; `counts` has how many there are of each kind.
        dropped: the first fault of every row that is left out.
        unread: fields that were not read -> in how many rows.
        repeats: rows that say the same again.
    """

    path: Path
    shape: str
    columns: Columns
    digest: str
    max_row_bytes: int
    num_rows: int = 0
    num_examples: int = 0
    faults: list[Fault] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    dropped: list[Fault] = field(default_factory=list)
    unread: Counter[str] = field(default_factory=Counter)
    repeats: Repeats = field(default_factory=Repeats)

    def examples(self) -> Iterator[tuple[int, Example]]:
        """As `good`: the examples, each with the number of its row."""
        return ((row.number, row.example) for row in self.good())

    def good(self) -> Iterator[Good]:
        """The good examples in their order.

        Raises:
            RhapsodeError: the file is not the one that was validated.
        """
        if digest_of(self.path) != self.digest:
            raise RhapsodeError(f"{self.path} has changed since it was validated", "validate it again")
        for found in _found(self.path, shape_named(self.shape), self.columns, self.max_row_bytes, Counter()):
            if found.example is not None:
                yield Good(found.number, found.example, found.group)

    def add(self, found: Found) -> None:
        self.num_rows += 1
        if found.example is not None:
            self.num_examples += 1
            self.repeats.add(found.number, found.example)
            return
        self.counts.update(fault.kind for fault in found.faults)
        self.faults += found.faults[: SHOWN - len(self.faults)]
        self.dropped.append(found.faults[0])


def validate(
    path: Path,
    *,
    shape: str | None = None,
    fields: Mapping[str, str] | None = None,
    templates: Mapping[str, str] | None = None,
    group: str | None = None,
    drop_faults: bool = False,
    max_row_bytes: int = 64 * MiB,
) -> Validated:
    """Look at every row of a file.

    Args:
        path: the file.
        shape: its shape; by default that of its first rows.
        fields: names of the file -> names of the shape, where they differ: {"question": "prompt"}.
        templates: names of the shape -> text with columns of the file: {"prompt": "Translate: {en}"}.
        group: the file's name of the field whose equal values belong together; every row must have it.
        drop_faults: leave rows out that have a fault; else one fault refuses the file.
        max_row_bytes: rows that are longer are faults and never held in memory.

    Raises:
        RhapsodeError: there is a fault and `drop_faults` is off, no row is good, or the file cannot be read to its end.
    """
    columns = columns_of(fields or {}, templates or {}, group)
    digest = digest_of(path)
    chosen = shape_named(shape) if shape is not None else _recognised(path, columns, max_row_bytes)
    result = Validated(path, chosen.name, columns, digest, max_row_bytes)
    for found in _found(path, chosen, columns, max_row_bytes, result.unread):
        result.add(found)
    if digest_of(path) != digest:
        raise RhapsodeError(f"{path} changed while it was read", "stop what writes to it, or read a copy of it")
    if result.counts and (not drop_faults or not result.num_examples or result.counts[REST_UNREADABLE]):
        raise _refusal(result)
    if not result.num_rows:
        raise RhapsodeError(f"{path} has no rows", "name another file")
    return result


def _recognised(path: Path, columns: Columns, max_row_bytes: int) -> Shape:
    rows = enumerate(read_rows(path, max_bytes=max_row_bytes), 1)
    good = (Numbered(number, columns.outline(row.value)) for number, row in rows if isinstance(row, Row))
    first = list(islice(good, _FIRST_ROWS))
    if not first:
        raise RhapsodeError(f"{path} has no row that can be read", "name another file, or say which shape to read")
    return recognise(first, file=str(path))


def _found(
    path: Path, shape: Shape, columns: Columns, max_row_bytes: int, unread_fields: Counter[str]
) -> Iterator[Found]:
    for number, row in enumerate(read_rows(path, max_bytes=max_row_bytes), 1):
        if isinstance(row, Flaw):
            yield Found(number, None, [_unreadable(number, row)])
            continue
        try:
            value = columns.read(row.value)
            group = columns.group_of(row.value) if isinstance(row.value, dict) else None
        except Misshapen as error:
            yield Found(number, None, [_fault(number, row, error.problem)])
            continue
        example, wrong = _judged(value, shape)
        if wrong:
            yield Found(number, None, [_fault(number, row, columns.back(problem)) for problem in wrong])
        else:
            not_read = unread(value, shape) | columns.unused(row.value)
            unread_fields.update(not_read - ({columns.group.name} if columns.group else set()))
            yield Found(number, example, [], group)


def _judged(value: Any, shape: Shape) -> tuple[Example | None, list[Problem]]:
    """The example, or what is wrong, with keys as they are in the row."""
    if not isinstance(value, dict):
        return None, [Problem(OTHER_SHAPE, (), "the row is no object", "write an object with fields")]
    try:
        example = shape.convert(value)
    except Misshapen as error:
        names = names_of(value)
        if not names or shape.name in names:
            return None, [error.problem]
        what = f"the row looks like {' and like '.join(names)}, not like {shape.name}"
        return None, [Problem(OTHER_SHAPE, (), what, "put it into a file of its own")]
    return example, [problem._replace(key=shape.place(value, problem.key)) for problem in problems(example)]


def _fault(number: int, row: Row, problem: Problem) -> Fault:
    line, column = row.line, row.column
    if row.text and column:
        line, column = place_of(row.text, problem.key, line=line, column=column)
    return Fault(problem.kind, number, line, column, format_key(problem.key), problem.what, problem.mend)


def _unreadable(number: int, flaw: Flaw) -> Fault:
    kind = flaw.reason if flaw.reason in (NOT_JSON, REST_UNREADABLE) else UNREADABLE
    detail = flaw.detail.partition(": ")[2] if flaw.column else flaw.detail
    return Fault(kind, number, flaw.line, flaw.column, "", f"{flaw.reason}: {detail}", "correct it, or remove it")


def _refusal(result: Validated) -> RhapsodeError:
    total = result.counts.total()
    lines = [fault.said(str(result.path)) for fault in result.faults]
    if total > len(lines):
        counts = ", ".join(f"{count:,} {kind}" for kind, count in result.counts.most_common())
        lines.append(f"{total:,} faults in {len(result.dropped):,} of {result.num_rows:,} rows: {counts}")
    hint = "mend them, or leave these rows out: drop_faults"
    if result.counts[REST_UNREADABLE]:
        hint = "mend the file: nobody can say what stands behind that place"
    elif not result.num_examples:
        hint = "no row is good; is this the shape of the file?"
    return RhapsodeError("\n".join(lines), hint)
