"""The answer is a JSON value of the wanted shape, and nothing else: no fence around it, no sentence before it."""

from functools import lru_cache

from rhapsode.core.errors import RhapsodeError
from rhapsode.evaluate.scorers.schema import Check, compile_schema
from rhapsode.evaluate.scorers.strict_json import parse


def json_schema(answer: str, wanted: str) -> float:
    """1 if the answer satisfies the JSON Schema in `wanted` (see `schema.py` for what it may use).

    Raises:
        RhapsodeError: the schema is not one, or uses what is not understood.
    """
    check = _compiled(wanted)
    try:
        return float(check(parse(answer)))
    except (ValueError, RecursionError):
        return 0.0


@lru_cache(maxsize=1024)
def _compiled(text: str) -> Check:
    try:
        value = parse(text)
    except (ValueError, RecursionError) as error:
        raise RhapsodeError(f"the JSON Schema of a row is not JSON: {error}", "correct the row") from None
    return compile_schema(value)
