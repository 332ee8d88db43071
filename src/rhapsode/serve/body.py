"""Request bodies: strict JSON into a typed value, or an error that names the field.

Python's reader is lenient where strangers are inventive: it takes duplicate keys, NaN, numbers that overflow, lone
surrogates, other encodings, and recurses as deep as it is told. All of that is refused, depth before parsing.
"""

import json
import math
import re
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from rhapsode.serve.errors import ApiError

MAX_DEPTH = 64
MAX_DIGITS = 20

_BRACKET = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[\]{}]', re.DOTALL)
_SURROGATE = re.compile(r"[\ud800-\udfff]")

Body = TypeVar("Body", bound=BaseModel)


def parse(body: bytes) -> dict[str, Any]:
    """The JSON object in `body`.

    Raises:
        ApiError: it is not one, or holds something that has no one meaning.
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _refused(f"not UTF-8 at byte {error.start}") from None
    if depth(body) > MAX_DEPTH:
        raise _refused(f"nested deeper than {MAX_DEPTH}")
    try:
        value = json.loads(
            text, object_pairs_hook=_object, parse_constant=_constant, parse_int=_integer, parse_float=_real
        )
    except json.JSONDecodeError as error:
        raise _refused(f"{error.msg} at character {error.pos}") from None
    if not isinstance(value, dict):
        raise _refused("not an object")
    if b"\\u" in body and _SURROGATE.search(json.dumps(value, ensure_ascii=False)):
        raise _refused("it holds half of a surrogate pair")
    return value


def depth(body: bytes) -> int:
    """How deep brackets nest, strings left out. Linear in the size of `body`, whatever is in it."""
    level = deepest = 0
    for match in _BRACKET.finditer(body):
        first = match[0][0]
        if first in b"[{":
            level += 1
            deepest = max(deepest, level)
        elif first in b"]}":
            level -= 1
    return deepest


def validated(kind: type[Body], value: dict[str, Any]) -> Body:
    """`value` as `kind`.

    Raises:
        ApiError: the first field that does not fit is named, or every field that is unknown.
    """
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
    unknown = [_path(problem["loc"]) for problem in problems if problem["type"] == "extra_forbidden"]
    if unknown:
        raise ApiError(400, f"unknown fields: {', '.join(unknown[:10])}", param=unknown[0], code="unknown_parameter")
    first = problems[0]
    path, why = _path(first["loc"]), first["msg"].removeprefix("Value error, ")
    raise ApiError(400, f"{path}: {why}" if path else why, param=path or None, code="invalid_value")


def _path(location: tuple[int | str, ...]) -> str:
    """`messages[0].content`: the names of a union's branches, which are in brackets, are left out."""
    path = ""
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        elif re.fullmatch(r"[\w-]{1,64}", part):
            path += f".{part}" if path else part
    return path


def _refused(why: str) -> ApiError:
    return ApiError(400, f"the body is not acceptable JSON: {why}", code="invalid_json")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise _refused(f"the key {twice[:64]!r} is there twice")
    return value


def _constant(name: str) -> float:
    raise _refused(f"{name} is not JSON")


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise _refused(f"a number has {len(digits)} digits")
    return int(digits)


def _real(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise _refused("a number is too large")
    return value
