"""Which answers a scorer judges, and against what of the row."""

import math

import numpy as np
import pytest

from rhapsode.core.errors import RhapsodeError
from rhapsode.evaluate.items import Item
from rhapsode.evaluate.judging import aim, concerning, judge, score, written
from rhapsode.evaluate.scorers.registry import scorer
from rhapsode.text.chat import Function, Message

ASK = (Message(role="user", content="How warm?"),)
TOOLS = ({"type": "function", "function": {"name": "warm"}},)
CALLED = '<tool_call>\n{"name": "warm", "arguments": {}}\n</tool_call>'
WORDS = Item("words", "a", ASK, "Ten degrees.")
OFFERED = Item("offered", "b", ASK, "I will not look.", TOOLS)
CALL = Item("call", "c", ASK, CALLED, TOOLS, calls=(Function(name="warm", arguments="{}"),))
ALL = [WORDS, OFFERED, CALL]


def test_words_and_calls_are_judged_apart_and_not_to_call_is_an_answer() -> None:
    said = ["Ten degrees.", CALLED, CALLED]
    found = judge(scorer("exact"), ALL, said)
    np.testing.assert_array_equal(found.scores, [1, 0, math.nan])
    np.testing.assert_array_equal(found.counts.sum(axis=0), [1, 2])
    found = judge(scorer("tool_calls"), ALL, said)
    np.testing.assert_array_equal(found.scores, [math.nan, 0, 1])
    np.testing.assert_array_equal(found.counts[0], 0)
    assert concerning(["tool_calls"], ALL) == ALL[1:]
    assert concerning(["tool_calls", "exact"], ALL) == ALL


@pytest.mark.parametrize(("name", "items"), [("tool_calls", [WORDS]), ("exact", [CALL])])
def test_a_scorer_without_business_is_refused(name: str, items: list[Item]) -> None:
    with pytest.raises(RhapsodeError, match=f"{name}: no row that is asked"):
        judge(scorer(name), items, [""])


@pytest.mark.parametrize(
    ("check", "of"),
    [
        ("12", "number"),
        ('{"type": "object"}', "json_schema"),
        ("assert f() == 3", "unit_tests"),
        ('["assert f"]', "unit_tests"),
    ],
)
def test_a_scorer_judges_by_the_check_that_is_made_for_it(check: str, of: str) -> None:
    item = Item("x", "x", ASK, "It is 11 and then 12", check=check)
    for name in ("number", "json_schema", "unit_tests", "exact", "rougeL"):
        assert aim(name, item) == (check if name == of else item.wanted)
    assert aim("number_near", item) == aim("number", item)


def test_a_number_beside_the_answer_is_what_counts() -> None:
    item = Item("x", "x", ASK, "Eleven, or 12 with the dog, of 40", check="12")
    assert score(scorer("number"), item, "So it is 12.0") == 1
    assert score(scorer("number"), item, item.wanted) == 0


def test_a_value_is_judged_by_the_rows_schema_and_by_the_rows_value() -> None:
    item = Item("x", "x", ASK, '{"age": 36}', check='{"type": "object", "required": ["age"]}')
    for answer, shape, value in [('{"age": 36}', 1, 1), ('{"age": 35}', 1, 0), ("36", 0, 0)]:
        assert score(scorer("json_schema"), item, answer) == shape
        assert score(scorer("json"), item, answer) == value


def test_a_program_that_goes_on_from_its_prompt_is_judged_whole() -> None:
    head = 'def add(a, b):\n    """Adds."""\n'
    body = Item("x", "x", head, "    return a + b", check="assert add(1, 2) == 3")
    assert written("unit_tests", body, "    return b + a") == f"{head}    return b + a"
    assert written("exact", body, "    return b + a") == "    return b + a"
    asked = Item("x", "x", "Write add.\n", "def add(a, b): return a + b", check="assert add(1, 2) == 3")
    assert written("unit_tests", asked, asked.wanted) == asked.wanted


def test_the_row_that_is_to_blame_is_named() -> None:
    items = [Item("good", "a", ASK, "12"), Item("bad", "b", ASK, "none")]
    with pytest.raises(RhapsodeError, match="item bad: the right answer 'none' has no number"):
        judge(scorer("number"), items, ["12", "12"])
