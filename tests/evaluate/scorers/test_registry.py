"""What every scorer promises, whatever it counts."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rhapsode.core.errors import RhapsodeError
from rhapsode.evaluate.scorers.registry import SCORERS, known, scorer
from rhapsode.evaluate.scorers.tool_calls import aim
from rhapsode.text.chat import Function

FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
CALL = '<tool_call>\n{"name": "f", "arguments": {"x": [1]}}\n</tool_call>'
AIMS = [aim([Function(name="f", arguments='{"x": [1]}')], [FUNCTION]), aim([], [FUNCTION])]
WANTED = {"json": ['{"a": [1, "x"]}', "[]"], "json_schema": ['{"type": "number"}', "true"]}
WANTED |= {name: ["#### 42", "7"] for name in ("number", "number_near")}
OF_CALLS = [name for name in SCORERS if SCORERS[name].is_of_calls]
WANTED |= dict.fromkeys(OF_CALLS, AIMS)
QUICK = [name for name in SCORERS if name != "unit_tests"]
NEAREST = [json.dumps([text, "another"]) for text in ("yes, that is so", "no, not at all today")]
PERFECT = {"json_schema": ["3.5", "[]"]} | {name: [CALL, "No."] for name in OF_CALLS}
PERFECT |= {name: NEAREST for name, one in SCORERS.items() if one.needs == "embed"}


def named(name: str) -> str:
    return f"{name}:yes" if name == "recall" else name


def wanted_of(name: str) -> list[str]:
    return WANTED.get(
        name, ["yes", "no"] if SCORERS[name].is_of_labels else ["yes, that is so", "no, not at all today"]
    )


@pytest.mark.parametrize("name", SCORERS)
def test_every_scorer_bears_its_name(name: str) -> None:
    assert scorer(named(name)).name == named(name)


@pytest.mark.parametrize("name", QUICK)
def test_a_right_answer_is_worth_1_and_a_set_of_them_too(name: str) -> None:
    judge, wanted = scorer(named(name)), wanted_of(name)
    answers = PERFECT.get(name, wanted)
    assert [judge.score(*pair) for pair in zip(answers, wanted, strict=True)] == pytest.approx([1, 1])
    assert judge.figure(judge.judge(answers, wanted).counts.sum(axis=0)) == pytest.approx(1)


@pytest.mark.parametrize("name", QUICK)
@given(answers=st.lists(st.text(st.characters(exclude_categories=())), min_size=2, max_size=2))
@settings(max_examples=60)
def test_no_answer_is_an_error_and_none_is_worth_more_than_1(name: str, answers: list[str]) -> None:
    judge, wanted = scorer(named(name)), wanted_of(name)
    judged = judge.judge(answers, wanted)
    assert all(0 <= judge.score(*pair) <= 1 for pair in zip(answers, wanted, strict=True))
    assert 0 <= judge.figure(judged.counts.sum(axis=0)) <= 1
    assert np.nanmin(judged.scores) >= 0
    assert np.nanmax(judged.scores) <= 1


@pytest.mark.parametrize("name", QUICK)
def test_many_sums_at_once_are_each_by_itself(name: str) -> None:
    judge, wanted = scorer(named(name)), wanted_of(name) * 3
    counts = judge.judge(["yes", "42", '{"a": [1]}', "no, not today", "", "maybe"], wanted).counts
    sums = counts.cumsum(axis=0)
    together, apart = judge.figure(sums), np.array([float(judge.figure(row)) for row in sums])
    np.testing.assert_array_equal(together, apart)
    assert judge.figure(sums.reshape(2, 3, -1)).shape == (2, 3)


@pytest.mark.parametrize(
    "name", [name for name in QUICK if name not in ("number", "number_near", "json", "json_schema", "recall", "f1")]
)
def test_nothing_to_compare_with_is_a_fault_of_the_row(name: str) -> None:
    with pytest.raises(RhapsodeError, match="empty|no words"):
        scorer(name).judge(["x"], [" \n"])


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("acuracy", "no scorer called 'acuracy'", "did you mean 'accuracy'?"),
        ("vibes", "no scorer called 'vibes'", "there are: exact, accuracy"),
        ("recall", "needs to know of what", "write recall:LABEL"),
        ("recall: ", "needs to know of what", "write recall:LABEL"),
        ("bleu:4", "takes nothing behind its name, not '4'", "write bleu"),
    ],
)
def test_a_name_that_is_none_is_told_what_it_could_be(name: str, message: str, hint: str) -> None:
    for ask in (known, scorer):
        with pytest.raises(RhapsodeError, match=message) as error:
            ask(name)
        assert error.value.hint.startswith(hint)
