"""One call: a model before and after it learned a task, judged on the same questions."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError
from tests.evaluate.task import loaded, questions, tokenizer_of, trained, untrained

from rhapsode.core.errors import RhapsodeError
from rhapsode.core.events import Event, Events
from rhapsode.engine.load import Loaded
from rhapsode.evaluate.config import EvaluateConfig
from rhapsode.evaluate.evaluate_task import evaluate_task
from rhapsode.evaluate.general import GeneralText
from rhapsode.evaluate.task_evaluation import TaskEvaluation, from_json

TASK = {
    "scorers": ["accuracy", "macro_f1", "recall:red", "chrf"],
    "max_tokens": 6,
    "shots": [0, 2],
    "shots_items": 5,
    "examples": 4,
    "general": {"documents": 10, "characters": 200},
}


@pytest.fixture(scope="module")
def before() -> Loaded:
    return untrained(tokenizer_of(chat=False))


@pytest.fixture(scope="module")
def after() -> Loaded:
    return trained(tokenizer_of(chat=True), questions())


def run(before: Loaded | None, after: Loaded, events: Events | None = None, answers_dir=None, **task) -> TaskEvaluation:
    config = EvaluateConfig.model_validate({"resamples": 200, "task": {**TASK, **task}})
    return evaluate_task(
        before,
        after,
        questions(),
        shots_from=questions(),
        config=config,
        events=events or Events(),
        answers_dir=answers_dir,
    )


@pytest.fixture(scope="module")
def found(before: Loaded, after: Loaded) -> TaskEvaluation:
    return run(before, after)


def test_a_model_that_learned_the_task_is_better_and_that_is_said(found):
    assert found.before is not None
    assert [score.scorer for score in found.after.scores] == TASK["scorers"]
    assert [score.value for score in found.after.scores] == pytest.approx([1, 1, 1, 1])
    assert found.before.scores[0].value == 0
    assert found.changes[0].verdict == "better by 100.0 points, interval 86.1 to 100.0"
    assert (found.changes[0].wins, found.changes[0].losses, found.changes[0].ties) == (20, 0, 0)
    assert found.changes[0].p_value == pytest.approx(2 * 0.5**20)
    assert found.verdict.startswith("accuracy: better by 100.0 points, interval 86.1 to 100.0; general text: worse: ")


def test_a_scorer_of_few_rows_has_no_interval(found):
    recall = found.changes[2]
    assert (recall.groups, recall.low) == (4, None)
    assert recall.verdict == "100.0 points higher; 4 independent items are too few for an interval, which needs 8"


def test_the_base_is_asked_in_plain_text_and_the_tuned_model_as_it_was_trained(found):
    assert found.before is not None
    assert found.before.prompt == "in plain text"
    assert [one.prompt for one in found.before.tried] == ["in plain text", "in plain text behind 2 examples"]
    assert found.before.tried_items == 5
    assert found.after.prompt == "as it is trained and served"
    assert found.after.tried == ()


def test_labels_and_confusions_count_every_answer(found):
    assert [(label.label, label.items, label.before, label.after) for label in found.labels] == [
        (label, 4, 0, 4) for label in ("black", "blue", "green", "red", "white")
    ]
    assert sum(one.before for one in found.confusions) == 20
    assert sum(one.after for one in found.confusions) == 0
    assert found.before is not None
    assert found.before.unknown == sum(one.before for one in found.confusions if not one.given)
    assert found.after.unknown == 0


def test_json_comes_back_the_same(found):
    assert from_json(json.loads(json.dumps(found.as_json()))) == found


def test_scores_of_items_add_up_to_the_figures(found):
    assert found.before is not None
    assert len(found.items) == 20
    for number, score in enumerate(found.after.scores[:1]):
        assert score.value == pytest.approx(sum(item.after[number] for item in found.items) / 20)
    recalls = [item.after[2] for item in found.items]
    assert recalls.count(None) == 16


def test_every_answer_is_written_for_both(before, after, tmp_path: Path):
    run(before, after, answers_dir=tmp_path, general={"documents": 0})
    rows = [json.loads(line) for line in (tmp_path / "after.jsonl").read_text().splitlines()]
    assert [row["answer"] for row in rows] == [item.wanted for item in questions()]
    assert len((tmp_path / "before.jsonl").read_text().splitlines()) == 20


def test_a_model_beside_itself_is_no_different(after):
    alone = loaded(after.engine.model, after.tokenizer)
    found = run(alone, after, shots=[0], general={"documents": 10})
    assert found.verdict == (
        "accuracy: no difference: 0.0 points, interval -13.9 to 13.9; "
        "general text: no difference: +0.0% bits, interval +0.0% to +0.0%"
    )
    assert all(change.is_none or change.low is None for change in found.changes)
    assert all(example.gain == 0 for example in found.examples)


def test_without_a_model_before_there_is_nothing_to_compare(after):
    found = run(None, after)
    assert found.before is None
    assert found.changes == ()
    assert found.general is None
    assert found.verdict == "accuracy 100.0 (interval 86.1 to 100.0); there is nothing to compare it with"
    assert from_json(json.loads(json.dumps(found.as_json()))) == found
    assert len(found.examples) == 4
    assert {example.gain for example in found.examples} == {None}


def test_examples_are_the_largest_gains_and_the_largest_losses(before, after):
    """Worse on purpose: the model that knows the task stands in for the one before."""
    half = trained(tokenizer_of(chat=True), [*questions()[:10], *(q._replace(wanted="red") for q in questions()[10:])])
    found = run(half, after, examples=6, shots=[0])
    assert [example.gain for example in found.examples] == [1.0] * 6
    turned = run(after, half, examples=6, shots=[0])
    assert [example.gain for example in turned.examples] == [-1.0] * 6
    assert {e.id for e in turned.examples} == {e.id for e in found.examples}
    assert turned.verdict.startswith("accuracy: worse by 40.0 points ± ")


def test_both_gains_and_losses_are_shown_where_there_are_both():
    first, second = (
        trained(
            tokenizer_of(chat=True),
            [q if (i < 10) == is_first else q._replace(wanted="so") for i, q in enumerate(questions())],
        )
        for is_first in (True, False)
    )
    found = run(first, second, examples=5, shots=[0])
    assert [example.gain for example in found.examples] == [1, 1, 1, -1, -1]
    assert found.changes[0].is_none


def test_what_is_asked_for_is_what_happens(before, after):
    one = run(before, after, items=9, examples=0, scorers=["exact"], general={"documents": 0})
    assert len(one.items) == 9
    assert one.examples == ()
    assert one.general is None
    assert one.labels == one.confusions == ()
    assert one.after.unknown is None
    assert run(before, after, max_tokens=1, general={"documents": 0}).after.cut == 20


def test_a_temperature_draws_answers_and_a_seed_repeats_them(tmp_path: Path):
    model = untrained(tokenizer_of(chat=True))
    said = []
    for number, temperature in enumerate((0.0, 2.0, 2.0)):
        run(None, model, answers_dir=tmp_path / str(number), temperature=temperature)
        said.append((tmp_path / str(number) / "after.jsonl").read_text())
    assert said[0] != said[1] == said[2]


def test_texts_of_ones_own_are_read_in_place_of_pythons(before, after):
    config = EvaluateConfig.model_validate({"resamples": 200, "task": {**TASK, "general": {"documents": 0}}})
    texts = [GeneralText("mine", "the sea is blue and the wine is red")]
    found = evaluate_task(before, after, questions(), shots_from=[], config=config, events=Events(), general=texts)
    assert found.general is not None
    assert [document.id for document in found.general.documents] == ["mine"]


def test_each_figure_is_told_as_it_is_found(before, after):
    heard: list[Event] = []
    run(before, after, Events(heard.append))
    scored = [(e.fields["name"], e.fields["scorer"]) for e in heard if e.kind == "scored"]
    assert scored == [(name, scorer) for name in ("before", "after") for scorer in TASK["scorers"]]
    stages = dict.fromkeys(e.fields["stage"] for e in heard if e.kind == "progress")
    assert list(stages) == ["prompts", "answers before", "answers after", "evaluate"]


def test_a_row_that_cannot_be_judged_is_refused(after):
    config = EvaluateConfig.model_validate({"task": {**TASK, "scorers": ["number"]}})
    with pytest.raises(RhapsodeError, match="the right answer 'blue' has no number"):
        evaluate_task(None, after, questions(), shots_from=[], config=config, events=Events())


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ({"scorers": []}, "at least 1 item"),
        ({"scorers": ["acuracy"]}, "did you mean 'accuracy'"),
        ({"scorers": ["recall:red"]}, "recall of one label cannot decide"),
        ({"scorers": ["exact", "exact"]}, "scorers names one twice"),
        ({"scorers": ["exact"], "shots": []}, "at least 1 item"),
        ({"scorers": ["exact"], "shots": [1, 1]}, "shots names one twice"),
        ({"scorers": ["exact"], "max_tokens": 0}, "greater than or equal to 1"),
        ({"scorers": ["exact"], "general": {"characters": 10}}, "greater than or equal to 200"),
        ({}, "Field required"),
    ],
)
def test_a_section_that_cannot_work_is_refused(task, said):
    with pytest.raises(ValidationError, match=said):
        EvaluateConfig.model_validate({"task": task})
