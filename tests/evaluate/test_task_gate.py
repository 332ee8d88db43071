"""A release is held to its answers and to what it forgot, and no difference is not better."""

import pytest
from pydantic import ValidationError

from rhapsode.evaluate.config import EvaluateConfig
from rhapsode.evaluate.evaluation import Comparison, Evaluation, Row
from rhapsode.evaluate.jackknife import Spread
from rhapsode.evaluate.paired import Change, verdict
from rhapsode.evaluate.task_gate import task_gate


def change(value: float, low: float | None, high: float | None) -> Change:
    found = Spread(value, low, high, 200)
    return Change("accuracy", *found, wins=1, losses=1, ties=1, p_value=None, verdict=verdict(found))


def general(saving: float) -> Evaluation:
    row = Row("after", 1.3, None, None, 9000, 12, 1.0, "")
    comparison = Comparison("before", saving, saving - 0.01, saving + 0.01, 0.0, 0.0, 0.0)
    numbers = {"context": 64, "stride": 32, "confidence": 0.95, "resamples": 200, "seed": 0}
    return Evaluation((row,), comparison, None, (), precision="float32", **numbers)


def gate(asked: dict[str, object], *, found: Change | None = None, forgotten: Evaluation | None = None):
    task = {"scorers": ["accuracy"]}
    config = EvaluateConfig.model_validate({"gate": asked, "task": task})
    return task_gate(() if found is None else (found,), forgotten, config.gate)


@pytest.mark.parametrize(
    ("asked", "found", "passed"),
    [
        ("better", change(0.31, 0.27, 0.35), True),
        ("better", change(0.02, -0.01, 0.05), False),
        ("better", change(-0.1, -0.2, -0.05), False),
        ("better", change(0.5, None, None), False),
        (10, change(0.31, 0.27, 0.35), True),
        (10.5, change(0.105, 0.01, 0.2), True),
        (10, change(0.09, 0.05, 0.13), False),
        (10, change(0.2, -0.1, 0.5), False),
        (0, change(0.02, -0.01, 0.05), False),
        ("better", None, False),
    ],
)
def test_better_is_more_than_chance(asked: object, found: Change | None, passed: bool) -> None:
    made = gate({"task": asked}, found=found)
    assert made is not None
    assert made.passed is passed
    assert "a release needs to be better" in made.sentence


@pytest.mark.parametrize(("saving", "passed"), [(0.01, True), (-0.02, True), (-0.021, False)])
def test_what_may_be_forgotten_is_a_part_of_the_bits(saving: float, passed: bool) -> None:
    made = gate({"general": "2%"}, forgotten=general(saving))
    assert made is not None
    assert made.passed is passed


def test_the_sentence_says_what_was_found_and_what_is_asked() -> None:
    made = gate({"task": 10, "general": 0.02}, found=change(0.31, 0.27, 0.35), forgotten=general(-0.05))
    assert made is not None
    assert made.sentence == (
        "accuracy: better by 31.0 points ± 4.0; a release needs to be better by at least 10 points; "
        "general text: worse: 5.0% more bits, interval 4.0% to 6.0%; a release may need at most 2.0% more bits"
    )
    assert gate({}) is None


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"gate": {"task": "better"}}, "gate.task needs evaluate.task"),
        ({"gate": {"general": 0.1}}, "gate.general needs evaluate.task"),
        ({"gate": {"task": "good"}, "task": {"scorers": ["exact"]}}, "better"),
        ({"gate": {"task": 101}, "task": {"scorers": ["exact"]}}, "less than or equal to 100"),
        ({"gate": {"task": 1}, "task": {"scorers": ["exact"]}, "baselines": ["xz"]}, "baselines must name base"),
        ({"gate": {"general": 0.1}, "task": {"scorers": ["exact"], "general": {"documents": 0}}}, "documents is 0"),
    ],
)
def test_a_gate_that_cannot_be_judged_is_refused(section: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        EvaluateConfig.model_validate(section)
