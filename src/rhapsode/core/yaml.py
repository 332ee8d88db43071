"""YAML as people expect it, with the line of everything.

PyYAML parses; the meaning of scalars is YAML 1.2's core schema, so `no` is text, `1e-4` is a number, `010` is ten,
and `1:30` and dates stay text. Keys are always text. What would surprise is refused: keys given twice, anchors and
aliases, tags, more than one document.
"""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml

from rhapsode.core.errors import RecipeError

Key = tuple[str | int, ...]
"""The way to a value: ("data", "sources", 0, "path")."""

DEEPEST = 50

_NULL = re.compile(r"null|Null|NULL|~|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_INFINITY = re.compile(r"([-+]?)\.(?:inf|Inf|INF)")
_NAN = re.compile(r"\.(?:nan|NaN|NAN)")
_STEP = re.compile(r"\[([0-9]{1,6})\]|\.?([^.\[\]]+)")


class Place(NamedTuple):
    """Where a key and its value stand, as "file:line"."""

    key: str
    value: str


class Document(NamedTuple):
    """A parsed file: plain values, and the place of each."""

    value: Any
    places: dict[Key, Place]


def read_yaml(text: str, *, name: str) -> Document:
    """Parse one document.

    Args:
        text: the YAML.
        name: the file's name, for places and messages.

    Raises:
        RecipeError: it is not the YAML described above; the message names file and line.
    """
    try:
        node = _Composer(text, name).get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        what = " ".join(part for part in (error.context, error.problem) if part)
        raise RecipeError(f"{name}:{line}: {what}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise RecipeError(f"{name}:{line}: character {error.character!r} is not allowed", "remove it") from None
    if node is None:  # nothing, or comments alone
        start = f"{name}:1"
        return Document(None, {(): Place(start, start)})
    reader = _Reader(name)
    value = reader.value(node, ())
    if reader.problems:
        raise RecipeError("\n".join(reader.problems))
    return Document(value, reader.places)


def read_value(text: str, *, name: str) -> Any:
    """A value given on the command line: a scalar, or a list or mapping in brackets, or text in quotes."""
    text = text.strip()
    return read_yaml(text, name=name).value if text[:1] in ("[", "{", '"', "'") else scalar(text)


def write_yaml(value: Any) -> str:
    """Text that `read_yaml`, and any YAML 1.1 reader, reads back as `value`."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120, default_flow_style=False)


def scalar(text: str) -> str | int | float | bool | None:
    """The meaning of a plain (unquoted) scalar."""
    if _NULL.fullmatch(text):
        return None
    if _BOOL.fullmatch(text):
        return text.lower() == "true"
    if _INT.fullmatch(text) and len(text) < 1000:
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
    if _FLOAT.fullmatch(text):
        return float(text)
    if match := _INFINITY.fullmatch(text):
        return float(match[1] + "inf")
    return float("nan") if _NAN.fullmatch(text) else text


def format_key(key: Key) -> str:
    """("data", "sources", 0, "path") -> "data.sources[0].path"."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in key).removeprefix(".")


def parse_key(text: str) -> Key:
    """The inverse of `format_key`.

    Raises:
        ValueError: it is not a dotted key.
    """
    steps: list[str | int] = []
    position = 0
    while position < len(text):
        match = _STEP.match(text, position)
        if match is None or (not steps and not match[2]) or (text[position] == ".") != bool(steps and match[2]):
            raise ValueError(f"{text!r} is not a key such as train.steps or data.sources[0].path")
        steps.append(int(match[1]) if match[1] else match[2])
        position = match.end()
    if not steps:
        raise ValueError("the key is empty")
    return tuple(steps)


class _Composer(yaml.SafeLoader):
    """PyYAML's parser, refusing what makes a document mean more than it shows."""

    def __init__(self, text: str, file: str) -> None:
        super().__init__(text)
        self._file = file
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        at = f"{self._file}:{event.start_mark.line + 1}"
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise RecipeError(f"{at}: anchors and aliases (& and *) are not supported", "write the value out")
        if getattr(event, "tag", None):
            raise RecipeError(f"{at}: tags ({event.tag}) are not supported", "quote text that starts with !")
        if self._depth > DEEPEST:
            raise RecipeError(f"{at}: values are nested deeper than {DEEPEST} levels")
        self._depth += 1
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node


class _Reader:
    """Turns nodes into values and notes where they stand."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.places: dict[Key, Place] = {}
        self.problems: list[str] = []

    def value(self, node: yaml.Node, key: Key, key_node: yaml.Node | None = None) -> Any:
        self.places[key] = Place(self._at(key_node or node), self._at(node))
        if isinstance(node, yaml.MappingNode):
            return {name: self.value(v, (*key, name), k) for name, k, v in self._items(node, key)}
        if isinstance(node, yaml.SequenceNode):
            return [self.value(child, (*key, index)) for index, child in enumerate(node.value)]
        assert isinstance(node, yaml.ScalarNode)
        if any("\ud800" <= c <= "\udfff" for c in node.value):
            self.problems.append(f"{self._at(node)}: {format_key(key)}: half of a surrogate pair is not text")
        return scalar(node.value) if node.style is None else node.value

    def _items(self, node: yaml.MappingNode, key: Key) -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
        first: dict[str, str] = {}
        for key_node, value_node in node.value:
            at = self._at(key_node)
            if not isinstance(key_node, yaml.ScalarNode):
                self.problems.append(f"{at}: a key must be plain text; quote a value that starts with {{ or [")
                continue
            name = key_node.value
            shown = format_key((*key, name))
            if name == "<<" and key_node.style is None:
                self.problems.append(f"{at}: {shown}: merge keys are not supported; write the keys out")
            elif name in first:
                self.problems.append(f"{at}: {shown}: key given twice; the first is at {first[name]}")
            else:
                first[name] = at
                yield name, key_node, value_node

    def _at(self, node: yaml.Node) -> str:
        return f"{self._name}:{node.start_mark.line + 1}"


class _Dumper(yaml.SafeDumper):
    """Quotes every text that YAML 1.1 or 1.2 would read as something else, and writes no aliases."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


def _write_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = None
    if not text.replace("\n", "").isprintable():
        style = '"'
    elif "\n" in text.strip():
        style = "|"
    elif scalar(text) != text:
        style = "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _write_text)
