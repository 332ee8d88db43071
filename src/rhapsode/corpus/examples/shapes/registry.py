"""All shapes, and which of them a file has. A new one is one module and one line here."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from rhapsode.core.errors import RhapsodeError
from rhapsode.corpus.examples.shapes import (
    alpaca,
    completion,
    dialogue,
    feedback,
    openai,
    preference,
    sharegpt,
    text,
)
from rhapsode.corpus.examples.shapes.shape import Shape

SHAPES: dict[str, Shape] = {
    shape.name: shape
    for shape in (
        openai.SHAPE,
        completion.SHAPE,
        sharegpt.SHAPE,
        dialogue.SHAPE,
        alpaca.SHAPE,
        preference.SHAPE,
        feedback.SHAPE,
        text.SHAPE,
    )
}
_MOST_NUMBERS = 3
_MOST_FIELDS = 12


class Numbered(NamedTuple):
    """A row's value, and which row of the file it is, counted from 1."""

    number: int
    value: object


def shape_named(name: str) -> Shape:
    """The shape of that name.

    Raises:
        RhapsodeError: there is none.
    """
    if name not in SHAPES:
        raise RhapsodeError(f"there is no shape {name!r}", f"the shapes are {', '.join(SHAPES)}")
    return SHAPES[name]


def names_of(value: object) -> tuple[str, ...]:
    """The shapes that a row looks like."""
    if not isinstance(value, Mapping):
        return ()
    return tuple(name for name, shape in SHAPES.items() if shape.looks_like(value))


def recognise(rows: Sequence[Numbered], *, file: str) -> Shape:
    """The one shape that all of these rows have, usually the first of a file.

    Raises:
        RhapsodeError: they look like none, like several, or not all alike; the error says which row looks like what.
    """
    groups: dict[tuple[str, ...], list[Numbered]] = {}
    for row in rows:
        groups.setdefault(names_of(row.value), []).append(row)
    if () in groups:
        first = groups[()][0]
        raise RhapsodeError(
            f"{file}: row {first.number} looks like no shape that is known: it {described(first.value)}", _hint()
        )
    looks = [f"{_numbers(group)} like {' and like '.join(names)}" for names, group in groups.items()]
    if len(groups) > 1:
        raise RhapsodeError(
            f"{file} is mixed: {', '.join(looks)}", "split it into files of one shape each, or say which shape to read"
        )
    (names,) = groups
    if len(names) > 1:
        raise RhapsodeError(f"{file}: {looks[0]}", f"say which shape to read: {' or '.join(names)}")
    return SHAPES[names[0]]


def _numbers(rows: Sequence[Numbered]) -> str:
    shown = ", ".join(str(row.number) for row in rows[:_MOST_NUMBERS])
    more = f" and {len(rows) - _MOST_NUMBERS} more" if len(rows) > _MOST_NUMBERS else ""
    return f"rows {shown}{more} look" if len(rows) > 1 else f"row {shown} looks"


def described(value: object) -> str:
    """What a row has, to go on with "the row ..."."""
    if not isinstance(value, Mapping):
        return "is no object"
    names = [str(name)[:40] for name in list(value)[:_MOST_FIELDS]]
    return f"has the fields {', '.join(names)}" if names else "has no fields"


def _hint() -> str:
    needs = "; ".join(f"{shape.name} ({shape.needs})" for shape in SHAPES.values())
    return f"a row is one of {needs}; fields of other names get these by `fields: {{question: prompt, ...}}`"
