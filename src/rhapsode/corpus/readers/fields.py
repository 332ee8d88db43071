"""From a row of named fields to a record: the same rules for json, jsonl, csv and parquet.

The text is the text field; without one it is the contents of `messages`. Messages stay in the meta, and so do the
row's other short values (numbers, booleans, strings up to 2000 characters).
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rhapsode.corpus.documents import Kind
from rhapsode.corpus.readers.record import Flaw, Opened, Record, Row
from rhapsode.corpus.readers.registry import format_of

NO_TEXT = "no text field"
MESSAGES = "messages"
LICENCES = ("licence", "license")
PATHS = ("path", "file_path", "filepath", "filename", "file_name")
_SHOWN_FIELDS = 12
_LONGEST_VALUE = 2000
_LONGEST_FLAW = 4000


def record_of(row: object, opened: Opened, *, span: str, shown: str) -> Record | Flaw:
    """The record of a row. `shown` is what a flaw puts aside to look at."""
    if not isinstance(row, Mapping):
        return flaw(NO_TEXT, f"the row is {_named(row)}, not an object", span=span, shown=shown)
    text = row.get(opened.text_field)
    messages = row.get(MESSAGES)
    if text is None and messages is not None:
        text = _joined(messages)
        if text is None:
            return flaw(NO_TEXT, "messages is not a list of {role, content} with text", span=span, shown=shown)
    if not isinstance(text, str):
        return flaw(NO_TEXT, _missing(row, opened.text_field), span=span, shown=shown)
    licence = next((row[name] for name in LICENCES if isinstance(row.get(name), str)), "")
    return Record(text, _kind(row, opened), span, licence, _meta(row, opened.text_field, messages))


def records(rows: Iterable[Row | Flaw], opened: Opened) -> Iterator[Record | Flaw]:
    """What becomes of rows."""
    for row in rows:
        yield row if isinstance(row, Flaw) else record_of(row.value, opened, span=row.span, shown=row.text)


def flaw(reason: str, detail: str, *, span: str, shown: str, line: int = 0, column: int = 0) -> Flaw:
    return Flaw(reason, detail, span, shown[:_LONGEST_FLAW], line, column)


def _joined(messages: object) -> str | None:
    if not isinstance(messages, list) or not messages:
        return None
    contents = [message.get("content") if isinstance(message, Mapping) else None for message in messages]
    texts = [content for content in contents if isinstance(content, str)]
    return "\n\n".join(texts) if len(texts) == len(messages) else None


def _missing(row: Mapping[Any, Any], field: str) -> str:
    if field in row:
        return f"{field!r} is {_named(row[field])}, not text"
    names = [str(name)[:40] for name in list(row)[:_SHOWN_FIELDS]]
    return f"no field {field!r}; the row has {', '.join(names) or 'no fields'}"


def _named(value: object) -> str:
    names = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}
    return "null" if value is None else names.get(type(value), f"a {type(value).__name__}")


def _kind(row: Mapping[Any, Any], opened: Opened) -> Kind:
    """A row that names a source file holds source code."""
    if not opened.is_kind_fixed:
        for name in PATHS:
            path = row.get(name)
            if isinstance(path, str) and (format_ := format_of(path)):
                return format_.kind
    return opened.kind


def _is_short(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= _LONGEST_VALUE
    return isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))


def _meta(row: Mapping[Any, Any], text_field: str, messages: object) -> dict[str, Any]:
    meta = {
        str(name): value
        for name, value in row.items()
        if name not in (text_field, MESSAGES, *LICENCES) and _is_short(value)
    }
    return meta | {MESSAGES: messages} if isinstance(messages, list) else meta
