"""How many fields of a wanted JSON value an answer has, each at its place: for what is extracted from texts."""

import re
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from rhapsode.core.errors import RhapsodeError
from rhapsode.evaluate.scorers.strict_json import parse

_FENCED = re.compile(r"\A\s*```(?:json)?[ \t]*\n(.*)\n```\s*\Z", re.DOTALL)


def json_fields(answer: str, wanted: str) -> float:
    """F1 of the fields of both, where a field is a value that holds no others, with the keys that lead to it.

    The order of keys does not count, nor that of a list, nor a fence of Markdown around the whole answer. An answer
    that is no JSON has no fields.

    Raises:
        RhapsodeError: the wanted text is no JSON.
    """
    right = _wanted(wanted)
    fence = _FENCED.match(answer)
    try:
        said = Counter(fields(parse(fence[1] if fence else answer)))
    except (ValueError, RecursionError):
        return 0.0
    return 2 * (said & right).total() / (said.total() + right.total())


def fields(value: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Each field's place and what it is; an empty list or object is one too."""
    if isinstance(value, dict) and value:
        for key, part in value.items():
            yield from fields(part, (*place, key))
    elif isinstance(value, list) and value:
        for part in value:
            yield from fields(part, (*place, "[]"))
    else:
        yield place, _shown(value)


def _shown(value: Any) -> str:
    """1 and 1.0 are the same number, and neither is true; text is compared without white space around it."""
    if isinstance(value, str):
        return f"text {value.strip()}"
    if isinstance(value, float) and value.is_integer():
        return f"int {int(value)}"
    return f"{type(value).__name__} {value}"


@lru_cache(maxsize=1024)
def _wanted(text: str) -> Counter[tuple[tuple[str, ...], str]]:
    try:
        return Counter(fields(parse(text)))
    except (ValueError, RecursionError) as error:
        raise RhapsodeError(f"the wanted answer of a row is no JSON: {error}", "correct the row") from None
