"""Sweeps as a user walks them: several runs side by side, and one table."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from rhapsode.cli.app import run
from rhapsode.core.errors import Interrupted
from rhapsode.core.events import read_events
from rhapsode.core.lock import locked

RECIPE = """
task: {name: ships, purpose: Sings of ships.}
data:
  sources: [{path: texts, licence: CC0-1.0}]
  split: {validation: 0.4}
  tokens: {vocab_size: 300}
model: {size: 100k, context: 64}
train: {budget: 6 steps, batch_tokens: 256, save_every: 100, validate_every: 3, validation_tokens: 512, samples: 0}
evaluate: {baselines: [xz], samples: {count: 0}}
sweep:
  train.learning_rate: [0.001, 0.03]
  model.seed: [0, 1]
"""
VERSE = """Ship number {n} left the harbour of city {n} with bread for {n} days and a crew that sang.
On day {n} the wind turned, and the helmsman told the story of the {n} gates and the kings who built them.
"""
ONE_LIST = ("--set", "sweep={train.learning_rate: [0.001, 0.03]}")
NAMES = [f"ships-learning-rate-{rate}-seed-{seed}" for rate in ("0-001", "0-03") for seed in (0, 1)]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ships")
    (folder / "texts").mkdir()
    for n in range(30):
        (folder / "texts" / f"{n}.txt").write_text("".join(VERSE.format(n=n * m) for m in range(2, 4)))
    path = folder / "recipe.yaml"
    path.write_text(RECIPE)
    return path


def command(verb: str, recipe: Path, out: Path, *more: str) -> list[str]:
    return [verb, str(recipe), "--out", str(out), *more]


def given(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


@pytest.fixture(scope="module")
def walked(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`out` of a finished sweep; the tests do not change it."""
    out = tmp_path_factory.mktemp("walked") / "out"
    assert run(command("run", recipe, out)) == 0
    return out


@pytest.fixture
def copied(walked: Path, tmp_path: Path) -> Path:
    shutil.copytree(walked, tmp_path / "out")
    return tmp_path / "out"


def table(out: Path) -> Any:
    return json.loads((out / "runs" / "ships" / "sweep.json").read_text())


def test_every_run_is_an_ordinary_one(walked, recipe, tmp_path):
    for name in NAMES:
        left = {path.name for path in (walked / "runs" / name).iterdir()}
        assert {"report.html", "report.json", "events.jsonl", "recipe.yaml", "plan.json", "step-000006"} <= left
    alone = ("--set", "sweep={}", "--set", f"task.name={NAMES[3]}", "--set", "model.seed=1")
    assert run(command("train", recipe, tmp_path, *alone, "--set", "train.learning_rate=0.03")) == 0
    weights = Path("runs") / NAMES[3] / "step-000006" / "model.safetensors"
    assert (walked / weights).read_bytes() == (tmp_path / weights).read_bytes()


def test_all_runs_stand_in_one_table_with_differences_in_pairs(walked):
    found = table(walked)
    assert [one["name"] for one in found["runs"]] == NAMES
    assert found["runs"][2]["values"] == {"train.learning_rate": 0.03, "model.seed": 0}
    bits = {one["name"]: one["measured"]["bits_per_byte"] for one in found["runs"]}
    assert found["best"] == min(bits, key=bits.__getitem__)
    for one in found["runs"]:
        measured, report = one["measured"], json.loads((walked / "runs" / one["name"] / "report.json").read_text())
        assert one["plan"] == report["plan"]
        assert measured["low"] < measured["bits_per_byte"] < measured["high"]
        if one["name"] == found["best"]:
            assert measured["behind_best"] is None
            continue
        behind = measured["behind_best"]
        assert behind["is_paired"]
        assert behind["value"] == pytest.approx(bits[one["name"]] - bits[found["best"]])
        assert behind["low"] <= behind["value"] <= behind["high"]
        assert behind["high"] - behind["low"] < measured["high"] - measured["low"]


def test_runs_that_differ_in_seeds_alone_are_one_setting(walked):
    found = table(walked)
    bits = {one["name"]: one["measured"]["bits_per_byte"] for one in found["runs"]}
    means = {group["values"]["train.learning_rate"]: group for group in found["groups"]}
    for rate, names in ((0.001, NAMES[:2]), (0.03, NAMES[2:])):
        assert means[rate]["runs"] == 2
        assert means[rate]["mean"] == pytest.approx(sum(bits[name] for name in names) / 2)
        assert means[rate]["low"] < means[rate]["mean"] < means[rate]["high"]


def test_the_page_shows_the_table_and_every_curve(walked):
    page = (walked / "runs" / "ships" / "sweep.html").read_text()
    assert "The best is " in page
    assert "Over seeds" in page
    assert "Held-out text while training" in page
    for words in ("learning_rate 0.001, seed 0", "learning_rate 0.03, seed 1", *NAMES):
        assert words in page


def test_a_sweep_is_not_begun_twice_and_goes_on_with_what_is_new(copied, recipe, capsys):
    assert run(command("run", recipe, copied)) == 1
    assert "hold models of an earlier run" in capsys.readouterr().err
    journals = [copied / "runs" / name / "events.jsonl" for name in NAMES]
    before = [path.read_bytes() for path in journals]
    more = ("--resume", "--json", "--set", "sweep={train.learning_rate: [0.001], model.seed: [1, 2, 0]}")
    assert run(command("run", recipe, copied, *more)) == 0
    assert [path.read_bytes() for path in journals] == before
    found = given(capsys)
    assert [one["state"] for one in found["runs"]] == ["measured"] * 3
    assert [group["runs"] for group in found["groups"]] == [3]


def test_a_plan_shows_all_runs_and_costs_no_training(recipe, tmp_path, capsys):
    assert run(command("plan", recipe, tmp_path, "--json", *ONE_LIST)) == 0
    found = given(capsys)
    assert [one["values"] for one in found["runs"]] == [{"train.learning_rate": rate} for rate in (0.001, 0.03)]
    assert found["seconds"] == pytest.approx(sum(one["seconds"] for one in found["runs"]))
    assert not (tmp_path / "runs").exists()
    assert run(command("plan", recipe, tmp_path, *ONE_LIST)) == 0
    shown = capsys.readouterr().out
    assert "2 runs, one after the other" in shown
    assert "of training in all" in shown
    for name in ("ships-learning-rate-0-001", "ships-learning-rate-0-03"):
        kept = json.loads((tmp_path / "plan" / name / "plan.json").read_text())["hash"]
        assert kept in [one["plan"] for one in found["runs"]]


@pytest.mark.slow
def test_runs_with_other_held_out_documents_are_not_paired_and_the_gate_is_that_of_the_best(recipe, tmp_path, capsys):
    lists = ("--set", "sweep={data.split.seed: [0, 1]}", "--set", "evaluate.gate.below_best_baseline=99%")
    assert run(command("run", recipe, tmp_path, *lists)) == 4
    shown = capsys.readouterr()
    assert "not in pairs" in shown.out
    assert "the gate is not passed" in shown.err
    found = [one["measured"] for one in table(tmp_path)["runs"]]
    assert [one["behind_best"]["is_paired"] for one in found if one["behind_best"]] == [False]
    assert [one["gate_passed"] for one in found] == [False, False]
    assert len(list((tmp_path / "corpus").iterdir())) == 2


@pytest.mark.slow
def test_a_run_that_fails_does_not_hold_up_the_others_and_models_are_measured_later(recipe, tmp_path, capsys):
    with locked(tmp_path / "runs" / "ships-learning-rate-0-001"):
        assert run(command("train", recipe, tmp_path, "--json", *ONE_LIST)) == 1
    shown = capsys.readouterr()
    assert "1 of 2 runs failed:" in shown.err
    found = json.loads(shown.out.splitlines()[0])
    assert [one["state"] for one in found["runs"]] == ["failed", "trained"]
    assert "is in use by process" in found["runs"][0]["failure"]
    assert found["best"] is None
    assert found["runs"][1]["last_look"] > 0
    weights = tmp_path / "runs" / "ships-learning-rate-0-03" / "step-000006" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    assert run(command("run", recipe, tmp_path, "--resume", *ONE_LIST)) == 0
    assert weights.stat().st_mtime_ns == before
    assert [one["state"] for one in table(tmp_path)["runs"]] == ["measured"] * 2
    assert "behind the best" in capsys.readouterr().out


def test_a_sweep_goes_on_where_it_was_stopped(recipe, tmp_path, monkeypatch):
    """The second run is stopped before it is measured, as a signal would."""
    from rhapsode.recipe import findings as walking

    evaluate_run = walking.evaluate_run

    def stop(walk, *arguments):
        if walk.run_dir.name.endswith("0-03"):
            raise Interrupted("stopped", "go on with --resume")
        return evaluate_run(walk, *arguments)

    monkeypatch.setattr(walking, "evaluate_run", stop)
    assert run(command("run", recipe, tmp_path, *ONE_LIST)) == 130
    assert [one["state"] for one in table(tmp_path)["runs"]] == ["measured", "to do"]
    monkeypatch.undo()
    first = tmp_path / "runs" / "ships-learning-rate-0-001" / "events.jsonl"
    before = first.read_bytes()
    assert run(command("run", recipe, tmp_path, "--resume", *ONE_LIST)) == 0
    assert first.read_bytes() == before
    events = read_events(tmp_path / "runs" / "ships-learning-rate-0-03" / "events.jsonl")
    assert [event.fields["step"] for event in events if event.kind == "step"] == list(range(1, 7))
    assert [one["state"] for one in table(tmp_path)["runs"]] == ["measured"] * 2


def test_other_verbs_ask_for_one_run(recipe, tmp_path, capsys):
    assert run(command("prepare", recipe, tmp_path)) == 2
    assert "recipe.yaml:10: sweep: one run is needed here" in capsys.readouterr().err
