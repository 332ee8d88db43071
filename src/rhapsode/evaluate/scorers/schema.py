"""JSON Schema (2020-12), the part of it that people write for answers.

What is not understood is refused, never ignored. A schema becomes one function from a value to whether it fits.
`format` is an annotation in the standard and so would check nothing: it is refused, with `pattern` to say the same.
"""

import json
import re
from collections.abc import Callable, Mapping, Sized
from typing import Any

from rhapsode.core.errors import RhapsodeError

Check = Callable[[Any], bool]


def is_number(v: Any) -> bool:
    return isinstance(v, int | float) and not isinstance(v, bool)


TYPES: Mapping[str, Check] = {
    "null": lambda v: v is None,
    "boolean": lambda v: isinstance(v, bool),
    "integer": lambda v: is_number(v) and (isinstance(v, int) or v.is_integer()),
    "number": is_number,
    "string": lambda v: isinstance(v, str),
    "array": lambda v: isinstance(v, list),
    "object": lambda v: isinstance(v, dict),
}
ANNOTATIONS = frozenset(
    ("$schema", "$id", "$comment", "$defs", "definitions", "title", "description", "default", "examples", "deprecated")
)
"""Keywords that say nothing about a value; the definitions are read where something refers to them."""


def compile_schema(schema: Any) -> Check:
    """The function that says whether a value fits.

    Raises:
        RhapsodeError: it is no schema, or has a keyword that is not understood; the path to it is named.
    """
    return _Compiler(schema).check_of(schema, "#")


class _Compiler:
    def __init__(self, whole: Any) -> None:
        self._whole = whole
        self._referred: dict[str, Check] = {}

    def check_of(self, schema: Any, path: str) -> Check:
        if isinstance(schema, bool):
            return lambda _: schema
        if not isinstance(schema, dict):
            raise _fault(path, "a schema is an object, or true or false")
        used = {name: value for name, value in schema.items() if name not in ANNOTATIONS}
        checks = [self._keyword(name, value, schema, f"{path}/{name}") for name, value in used.items()]
        return lambda v: all(check(v) for check in checks)

    def _keyword(self, name: str, value: Any, schema: Mapping[str, Any], path: str) -> Check:
        if name in SIMPLE:
            try:
                return SIMPLE[name](value)
            except (TypeError, ValueError, KeyError, re.error):
                raise _fault(path, f"{json.dumps(value)[:60]} cannot stand here") from None
        match name:
            case "$ref":
                return self._reference(value, path)
            case "allOf" | "anyOf" | "oneOf":
                return self._several(name, value, path)
            case "not":
                check = self.check_of(value, path)
                return lambda v: not check(v)
            case "properties":
                named = self._named(value, path)
                return lambda v: not isinstance(v, dict) or all(c(v[k]) for k, c in named.items() if k in v)
            case "additionalProperties":
                others, known = self.check_of(value, path), frozenset(schema.get("properties", ()))
                return lambda v: not isinstance(v, dict) or all(others(x) for k, x in v.items() if k not in known)
            case "items":
                each, first = self.check_of(value, path), len(schema.get("prefixItems", ()))
                return lambda v: not isinstance(v, list) or all(map(each, v[first:]))
            case "prefixItems":
                places = [self.check_of(part, f"{path}/{i}") for i, part in enumerate(_listed(value, path))]
                return lambda v: not isinstance(v, list) or all(c(x) for c, x in zip(places, v, strict=False))
        raise _fault(path, f"the keyword {name!r} is not understood here")

    def _named(self, value: Any, path: str) -> dict[str, Check]:
        if not isinstance(value, dict):
            raise _fault(path, "an object of schemas belongs here")
        return {key: self.check_of(part, f"{path}/{key}") for key, part in value.items()}

    def _several(self, name: str, value: Any, path: str) -> Check:
        checks = [self.check_of(part, f"{path}/{i}") for i, part in enumerate(_listed(value, path))]
        if name == "oneOf":
            return lambda v: sum(check(v) for check in checks) == 1
        joined = all if name == "allOf" else any
        return lambda v: joined(check(v) for check in checks)

    def _reference(self, target: Any, path: str) -> Check:
        """A schema may refer to itself, so what is referred to is looked up when a value asks."""
        if not isinstance(target, str) or not target.startswith("#"):
            raise _fault(path, "only references within the schema (#/...) are followed")
        if target not in self._referred:
            self._referred[target] = lambda _: False  # until it is made: it may refer to itself
            self._referred[target] = self.check_of(self._found(target, path), target)
        return lambda v: self._referred[target](v)  # noqa: PLW0108 - it may not be made yet

    def _found(self, target: str, path: str) -> Any:
        value = self._whole
        for step in target[1:].split("/")[1:]:
            step = step.replace("~1", "/").replace("~0", "~")
            if not isinstance(value, dict) or step not in value:
                raise _fault(path, f"it refers to {target}, which is not there")
            value = value[step]
        return value


def _fault(path: str, what: str) -> RhapsodeError:
    return RhapsodeError(
        f"JSON Schema, {path}: {what}", f"understood: {', '.join(sorted({*SIMPLE, *STRUCTURAL}))}, and annotations"
    )


def _listed(value: Any, path: str) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise _fault(path, "a list of schemas belongs here")
    return value


def same(a: Any) -> Any:
    """Equal for values that JSON Schema takes for equal: 1 is 1.0, and true is not 1."""
    if isinstance(a, dict):
        return ("object", frozenset((k, same(v)) for k, v in a.items()))
    if isinstance(a, list):
        return ("array", tuple(map(same, a)))
    return (isinstance(a, bool), a)


def _typed(names: Any) -> Check:
    checks = [TYPES[name] for name in (names if isinstance(names, list) else [names])]
    return lambda v: any(check(v) for check in checks)


def _number(limit: Any, fits: Callable[[Any, Any], bool]) -> Check:
    if not is_number(limit):
        raise TypeError
    return lambda v: not is_number(v) or fits(v, limit)


def _size(kind: type[Sized], limit: Any, fits: Callable[[int, int], bool]) -> Check:
    if not TYPES["integer"](limit) or limit < 0:
        raise ValueError
    return lambda v: not isinstance(v, kind) or fits(len(v), limit)


def _multiple(v: Any, of: Any) -> bool:
    share = v / of
    return bool(share == int(share))


def _one_of(values: Any) -> Check:
    known = frozenset(map(same, values))
    return lambda v: same(v) in known


def _required(names: Any) -> Check:
    wanted = frozenset(names)
    return lambda v: not isinstance(v, dict) or wanted <= v.keys()


def _matching(pattern: Any) -> Check:
    compiled = re.compile(pattern)
    return lambda v: not isinstance(v, str) or compiled.search(v) is not None


SIMPLE: Mapping[str, Callable[[Any], Check]] = {
    "type": _typed,
    "enum": _one_of,
    "const": lambda value: _one_of([value]),
    "required": _required,
    "pattern": _matching,
    "minimum": lambda n: _number(n, lambda v, n: bool(v >= n)),
    "maximum": lambda n: _number(n, lambda v, n: bool(v <= n)),
    "exclusiveMinimum": lambda n: _number(n, lambda v, n: bool(v > n)),
    "exclusiveMaximum": lambda n: _number(n, lambda v, n: bool(v < n)),
    "multipleOf": lambda n: _number(n, _multiple) if n else _number(None, _multiple),
    "minLength": lambda n: _size(str, n, lambda a, b: a >= b),
    "maxLength": lambda n: _size(str, n, lambda a, b: a <= b),
    "minItems": lambda n: _size(list, n, lambda a, b: a >= b),
    "maxItems": lambda n: _size(list, n, lambda a, b: a <= b),
    "minProperties": lambda n: _size(dict, n, lambda a, b: a >= b),
    "maxProperties": lambda n: _size(dict, n, lambda a, b: a <= b),
    "uniqueItems": lambda yes: lambda v: not yes or not isinstance(v, list) or len({*map(same, v)}) == len(v),
}
"""Keywords whose meaning is their own value; each makes its check, or raises TypeError, ValueError or KeyError."""
STRUCTURAL = (
    "$ref", "allOf", "anyOf", "oneOf", "not", "properties", "additionalProperties", "items", "prefixItems"
)  # fmt: skip
