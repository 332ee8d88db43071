"""The answer calls tools: the right ones, with the right arguments, and none where none is wanted.

Calls are compared as JSON values, in any order: whoever carries them out reads them so. What is wanted is JSON itself,
an object of the wanted calls and the row's tools (`aim`).
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from rhapsode.core.errors import RhapsodeError
from rhapsode.evaluate.scorers.json_fields import fields
from rhapsode.evaluate.scorers.schema import Check, compile_schema, same
from rhapsode.evaluate.scorers.scorer import require_wanted
from rhapsode.text.chat import Function
from rhapsode.text.tool_calls import read_calls


class Wanted(NamedTuple):
    """The calls of the right answer, and a check of the arguments of each tool."""

    calls: tuple[Function, ...]
    tools: Mapping[str, Any]


def aim(calls: Sequence[Function], tools: Sequence[Mapping[str, Any]]) -> str:
    """What an answer is held against, as text."""
    listed = {tool["function"]["name"]: tool["function"].get("parameters") or True for tool in tools}
    return json.dumps({"calls": [[call.name, call.arguments] for call in calls], "tools": listed})


def tool_calls(answer: str, wanted: str) -> float:
    """1 if the answer calls exactly what is wanted, each name with equal arguments."""
    return float(_values(read_calls(answer).calls) == _values(_read(wanted).calls))


def tool_fields(answer: str, wanted: str) -> float:
    """F1 of the names and arguments of both; arguments count under the name of their tool.

    Where neither calls anything it is 1.
    """
    said, right = (Counter(_fields(calls)) for calls in (read_calls(answer).calls, _read(wanted).calls))
    total = said.total() + right.total()
    return 2 * (said & right).total() / total if total else 1.0


def tool_schema(answer: str, wanted: str) -> float:
    """1 if each call is of a tool that there is, and its arguments fit the tool's JSON Schema.

    An answer that calls nothing is right where nothing is wanted.

    Raises:
        RhapsodeError: a schema has what is not understood, or the row's own call does not fit.
    """
    right = _read(wanted)
    checks = _compiled(wanted)
    if not _fit(right.calls, checks):
        names = ", ".join(call.name for call in right.calls)
        raise RhapsodeError(f"the row's own call of {names} does not fit the tool's parameters", "correct the row")
    calls = read_calls(answer).calls
    return float(_fit(calls, checks) if calls else not right.calls)


def _fit(calls: Iterable[Function], checks: Mapping[str, Check]) -> bool:
    return all(call.name in checks and checks[call.name](call.values) for call in calls)


def _values(calls: Iterable[Function]) -> Counter[Any]:
    return Counter((call.name, same(call.values)) for call in calls)


def _fields(calls: Iterable[Function]) -> Iterator[Any]:
    for call in calls:
        yield call.name
        if call.values:
            yield from ((call.name, *field) for field in fields(call.values))


@lru_cache(maxsize=1024)
def _read(wanted: str) -> Wanted:
    require_wanted(wanted)
    try:
        value = json.loads(wanted)
    except ValueError:
        raise RhapsodeError(f"{wanted[:40]!r} does not say what is to be called", "judge through judging.py") from None
    return Wanted(tuple(Function(name=name, arguments=text) for name, text in value["calls"]), value["tools"])


@lru_cache(maxsize=1024)
def _compiled(wanted: str) -> Mapping[str, Check]:
    found = {}
    for name, schema in _read(wanted).tools.items():
        try:
            found[name] = compile_schema(schema)
        except RhapsodeError as error:
            raise RhapsodeError(f"the tool {name}: {error.message}", error.hint) from None
    return found
