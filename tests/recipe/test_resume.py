"""A run may go on in another way of computing, aloud; with another meaning it may not."""

from pathlib import Path

import pytest
from tests.train.conftest import Heard

from rhapsode.core.errors import PlanRefused
from rhapsode.core.events import Events
from rhapsode.recipe.layout import Layout
from rhapsode.recipe.load import load_recipe
from rhapsode.recipe.run import plan_run, train_run, walking
from rhapsode.weights.checkpoint import read_state

SMALL = ("train.samples=0", "train.micro_batch_rows=4")


def train(recipe: Path, out: Path, *changes: str, resume: bool, must_match: bool = False) -> tuple[Path, Heard]:
    loaded, layout, heard = load_recipe(recipe, [*SMALL, *changes]), Layout(out), Heard()
    with walking(loaded, layout=layout, events=Events(heard), resume=resume) as walk:
        plan, cost = plan_run(loaded, layout=layout, events=walk.events, must_match=must_match)
        return train_run(walk, plan, cost, resume=resume), heard


def test_what_the_machine_decides_is_converted_and_what_is_meant_is_refused(recipe_path: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    last, usual = train(recipe_path, out, resume=False)
    machine = read_state(last).machine
    assert {"device", "threads", "instructions", "torch", "precision", "micro_batch_rows"} <= set(machine)
    assert [{name: event.fields[name] for name in machine} for event in usual if event.kind == "determinism"] == [
        machine
    ]

    # the plan that is kept differs in that as well: it is told, not refused
    _, heard = train(recipe_path, out, "train.micro_batch_rows=2", resume=True, must_match=True)
    assert "train.micro_batch_rows: 4 -> 2" in heard.of("changed", "listed")[0]
    assert heard.of("resumed_elsewhere", "changes") == [["micro_batch_rows: 4 -> 2"]]

    # how many checkpoints stay is nobody's business but the disk's
    _, heard = train(recipe_path, out, "train.keep=1", resume=True, must_match=True)
    assert heard.of("resumed_elsewhere", "changes") == []

    with pytest.raises(PlanRefused, match=r"this is not what was planned.*\n.*train\.learning_rate"):
        train(recipe_path, out, "train.learning_rate=0.5", resume=True, must_match=True)
    with pytest.raises(PlanRefused, match=r"small is a run of another plan:\n  train\.learning_rate: .* -> 0\.5"):
        train(recipe_path, out, "train.learning_rate=0.5", resume=True)
