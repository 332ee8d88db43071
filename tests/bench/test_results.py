"""The lines of docs/results.md from what a run wrote down."""

import json

import pytest
import results

from rhapsode.core.events import Events, JsonLines

SCORE = {"scorer": "accuracy", "value": 0.5, "low": 0.4, "high": 0.6}
BASE = {"scorer": "accuracy", "value": 0.25, "low": None, "high": None}


@pytest.fixture
def run_dir(tmp_path):
    path = tmp_path / "intents"
    path.mkdir()
    with JsonLines(path / "events.jsonl") as journal:
        events = Events(journal)
        for step in (1, 2):
            events.emit("step", step=step)
        events.emit("spent", seconds_by={"steps": 90.0})
    return path


def written(path, **task):
    known = {"items": [{}, {}], "after": {"scores": [SCORE]}, "before": None, "changes": [], "general": None}
    (path / "report.json").write_text(json.dumps({"task": known | task}))
    return list(results.lines(path))


def test_a_line_tells_both_models_and_what_training_took(run_dir):
    before = {"scores": [BASE], "shots": 3.0}
    found = written(run_dir, before=before, changes=[{"verdict": "better by 25.0 points"}])
    assert found == [
        ("intents", "accuracy", "2", "25.0 (3)", "50.0 [40.0-60.0]", "better by 25.0 points", "", "2 steps, 1.5 min")
    ]


def test_a_model_without_a_base_that_can_be_asked_stands_alone(run_dir):
    assert written(run_dir) == [("intents", "accuracy", "2", "", "50.0 [40.0-60.0]", "", "", "2 steps, 1.5 min")]
