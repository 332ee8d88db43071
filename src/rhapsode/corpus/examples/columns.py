"""From the columns of a file to the fields of a shape: some under another name, some written with a template.

Many sets are plain tables: a text beside its label, a sentence beside its translation. A template makes a field out of
such columns: "Classify: {text}". `{a.b[0]}` leads into a column that holds objects or lists, and a brace that is meant
is doubled. Of a row that is written, nothing else is read. What a template cannot find or finds empty is a fault, for
a prompt without its text looks like any other.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from rhapsode.core.errors import RhapsodeError
from rhapsode.core.yaml import Key, parse_key
from rhapsode.corpus.examples.fault import EMPTY_COLUMN, MISSING, Problem, misshapen, wrong_type
from rhapsode.corpus.examples.shapes.registry import SHAPES, described

_PART = re.compile(r"\{\{|\}\}|\{([^{}]+)\}|[{}]")
_NO_TEXT = frozenset({"messages", "conversations", "turns", "tools", "history", "label"})


class Column(NamedTuple):
    """What stands between braces, and where that leads if no column has this very name."""

    name: str
    key: Key

    def of(self, row: Mapping[str, Any]) -> tuple[Key, Any]:
        """Where in the row it is, and the value; None where there is none."""
        if self.name in row:
            return (self.name,), row[self.name]
        value: Any = row
        for step in self.key:
            if isinstance(step, int):
                value = value[step] if isinstance(value, list) and step < len(value) else None
            else:
                value = value.get(step) if isinstance(value, Mapping) else None
        return self.key, value


Template = tuple[str | Column, ...]


@dataclass(frozen=True)
class Columns:
    """`fields`: names of the file -> names of the shape. `templates`: names of the shape -> what is written there.
    `group`: the column whose equal values belong together.
    """

    fields: Mapping[str, str]
    templates: Mapping[str, Template]
    group: Column | None = None

    @cached_property
    def names(self) -> frozenset[str]:
        """The columns that templates read."""
        read = [part for template in self.templates.values() for part in template if isinstance(part, Column)]
        return frozenset(str(name) for part in read for name in (part.name, part.key[0]))

    def read(self, row: Any) -> Any:
        """The row under the shape's names. A field whose name another has been given is left unread, and told.

        Raises:
            Misshapen: a template cannot be filled; the key leads to the column.
        """
        if not isinstance(row, dict):
            return row
        if not self.templates:
            return self._renamed(row)
        written = {
            name: "".join(
                part if isinstance(part, str) else _text(part, row, asked_by=f"the template of {name}")
                for part in parts
            )
            for name, parts in self.templates.items()
        }
        return {self.fields[name]: value for name, value in row.items() if name in self.fields} | written

    def outline(self, row: Any) -> Any:
        """What `read` gives, whether or not the templates can be filled: enough to know the shape."""
        if not isinstance(row, dict) or not self.templates:
            return self.read(row)
        return {name: row.get(of_file) for of_file, name in self.fields.items()} | dict.fromkeys(self.templates, "?")

    def group_of(self, row: Mapping[str, Any]) -> str | None:
        """What the row belongs to; None where no column says so.

        Raises:
            Misshapen: the column is not there or empty, or holds neither text nor a number.
        """
        return None if self.group is None else _text(self.group, row, asked_by="data.split.group")

    def unused(self, row: Any) -> set[str]:
        """Columns that hold something and that neither names nor templates read."""
        if not self.templates:
            return set()
        known = self.names | self.fields.keys()
        return {name for name, value in row.items() if name not in known and value is not None}

    def back(self, problem: Problem) -> Problem:
        """A problem of the shape's field as one of the file's column."""
        if not problem.key:
            return problem
        name, *rest = problem.key
        if name in self.templates:
            columns = [part for part in self.templates[str(name)] if isinstance(part, Column)]
            key: Key = columns[0].key if len(columns) == 1 else ()
            return problem._replace(key=key, what=f"written as {name}: {problem.what}")
        by_shape = {of_shape: of_file for of_file, of_shape in self.fields.items()}
        return problem._replace(key=(by_shape.get(str(name), name), *rest))

    def _renamed(self, row: dict[str, Any]) -> dict[str, Any]:
        if not self.fields:
            return row
        taken = self.fields.values()
        names = {name: self.fields.get(name, f"{name} of the file" if name in taken else name) for name in row}
        return {names[name]: value for name, value in row.items()}


def columns_of(fields: Mapping[str, str], templates: Mapping[str, str], group: str | None = None) -> Columns:
    """Names and templates as people write them.

    Args:
        fields, templates, group: as in `Columns`; a name such as a.b[0] leads into a column.

    Raises:
        RhapsodeError: no shape has such a field, it is given twice, it holds no text, or a template is not one.
    """
    known = sorted({key for shape in SHAPES.values() for key in shape.keys})
    for setting, names in (("fields", fields.values()), ("templates", templates)):
        if unknown := [name for name in names if name not in known]:
            raise RhapsodeError(f"{setting}: no shape has a field {unknown[0]!r}", f"the fields are {', '.join(known)}")
    for name in templates:
        if name in fields.values():
            raise RhapsodeError(f"templates: {name} is named in fields too", "leave one of the two out")
        if name in _NO_TEXT:
            writable = ", ".join(key for key in known if key not in _NO_TEXT)
            raise RhapsodeError(f"templates: {name} does not hold text", f"text is what {writable} hold")
    parsed = {name: parse_template(text, name=name) for name, text in templates.items()}
    return Columns(dict(fields), parsed, None if group is None else _column(group, "data.split.group"))


def parse_template(text: str, *, name: str) -> Template:
    """The text and the columns of a template, in their order; `name` is the field that it writes.

    Raises:
        RhapsodeError: a brace stands alone, or what is between two of them is no column.
    """
    parts: list[str | Column] = []
    end = 0
    for match in _PART.finditer(text):
        parts.append(text[end : match.start()])
        end = match.end()
        if match[1] is not None:
            parts.append(_column(match[1], f"templates: {name}"))
        elif len(match[0]) == 2:
            parts.append(match[0][0])
        else:
            what = f"templates: {name}: the brace at character {match.start() + 1} stands alone"
            raise RhapsodeError(what, "write {column}, or {{ and }} where braces are meant")
    return tuple(part for part in (*parts, text[end:]) if part)


def _column(text: str, name: str) -> Column:
    try:
        return Column(text, parse_key(text))
    except ValueError:
        hint = "name a column, or lead into one that holds objects: {translation.en}"
        raise RhapsodeError(f"{name}: {{{text}}} names no column", hint) from None


def _text(column: Column, row: Mapping[str, Any], *, asked_by: str) -> str:
    key, value = column.of(row)
    if value is None:
        misshapen(MISSING, key, "missing", f"{asked_by} names it; the row {described(row)}")
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    if not isinstance(value, str):
        wrong_type(value, key, wanted="text or a number")
    if not value.strip():
        misshapen(EMPTY_COLUMN, key, f"empty, and {asked_by} needs it", "write it, or remove the row")
    return value
