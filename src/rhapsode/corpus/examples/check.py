"""A row's own check, which stands beside its answer: unit tests of a program, the JSON Schema of a value, or a number.

There are tasks whose answers no text can be compared with: a program is right if it passes its tests, however it is
written. The check is kept as text and never learned; its form says which scorer judges by it.
"""

import json
from collections.abc import Mapping
from typing import Literal

from rhapsode.core.yaml import Key
from rhapsode.corpus.examples.fault import WRONG_TYPE, misshapen, wrong_type

CheckKind = Literal["unit_tests", "json_schema", "number"]
"""The scorer that a check is for."""

_WANTED = "unit tests (Python as text, or a list of such), a JSON Schema (an object) or a number"


def read_check(value: object) -> str:
    """A row's field `check` as text; empty where there is none.

    Raises:
        Misshapen: it is none of the three.
    """
    key: Key = ("check",)
    if value is None or isinstance(value, str):
        return "" if value is None or not value.strip() else value
    if isinstance(value, bool) or not isinstance(value, int | float | Mapping | list):
        wrong_type(value, key, wanted=_WANTED)
    if isinstance(value, list) and not (value and all(isinstance(test, str) and test.strip() for test in value)):
        misshapen(WRONG_TYPE, key, "a list with something else than unit tests", f"write {_WANTED}")
    return json.dumps(value, ensure_ascii=False)


def kind_of(check: str) -> CheckKind:
    """Which scorer it is for, by its form alone."""
    try:
        value = json.loads(check)
    except (ValueError, RecursionError):
        return "unit_tests"
    if isinstance(value, dict):
        return "json_schema"
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else "unit_tests"
