"""The answer is a JSON value of the wanted shape, and nothing else: no fence around it, no sentence before it."""

import json
from functools import lru_cache
from typing import Any, NoReturn

from rhapsode.core.errors import RhapsodeError
from rhapsode.train.rewards.schema import Check, compile_schema


def json_schema(answer: str, wanted: str) -> float:
    """1 if the answer satisfies the JSON Schema in `wanted` (see `schema.py` for what it may use).

    Raises:
        RhapsodeError: the schema is not one, or uses what is not understood.
    """
    check = _compiled(wanted)
    try:
        return float(check(_parsed(answer)))
    except (ValueError, RecursionError):
        return 0.0


def _parsed(text: str) -> Any:
    """Raises: ValueError, RecursionError."""
    return json.loads(text, parse_constant=_refuse)


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")


@lru_cache(maxsize=1024)
def _compiled(text: str) -> Check:
    try:
        value = _parsed(text)
    except (ValueError, RecursionError) as error:
        raise RhapsodeError(f"the JSON Schema of a row is not JSON: {error}", "correct the row") from None
    return compile_schema(value)
