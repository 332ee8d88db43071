"""`rhapsode evaluate` on a recipe of examples: answers are judged, two models are compared, a gate is a gate."""

import json
import shutil
from pathlib import Path

import pytest
from tests.recipe.bases import make_base

from rhapsode.cli.app import run
from rhapsode.core.manifest import verify

RECIPE = """
task: {name: tuned}
data: {examples: [{path: asked.jsonl, split: train}, {path: held.jsonl, split: validation}]}
model: {base: wide, context: 160}
train: {budget: 4 steps, batch_tokens: 320, learning_rate: 0.01, precision: fp32, adapter: {rank: 4}}
evaluate:
  task: {scorers: [accuracy], max_tokens: 4, shots: [0, 1], shots_items: 2, general: {documents: 2}}
  samples: {count: 0}
  baselines: [base]
"""


def asked(number: int) -> dict[str, str]:
    return {"prompt": f"Which colour has ship {number}?", "completion": f" {('red', 'green', 'blue')[number % 3]}"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, a recipe that tunes it, and what that run left in `out`."""
    folder = tmp_path_factory.mktemp("compared")
    for name, numbers in (("asked", range(30)), ("held", range(100, 109))):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(asked(n)) + "\n" for n in numbers))
    make_base(folder / "wide", "qwen2", context=1024)
    (folder / "recipe.yaml").write_text(RECIPE)
    gate = ("--set", "evaluate.gate.task=better")  # of a model that learned next to nothing
    assert run(["run", str(folder / "recipe.yaml"), "--out", str(folder / "out"), *gate]) == 4
    return folder


def evaluated(folder: Path, capsys: pytest.CaptureFixture[str], *more: str) -> dict:
    capsys.readouterr()
    assert run(["evaluate", str(folder / "recipe.yaml"), "--out", str(folder / "out"), "--json", *more]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_run_that_misses_the_gate_says_so_in_its_report(folder: Path) -> None:
    report = json.loads((folder / "out" / "runs" / "tuned" / "report.json").read_text())
    assert report["task"]["gate"]["passed"] is False
    assert "Gate not passed" in (folder / "out" / "runs" / "tuned" / "report.html").read_text()


def test_the_model_of_the_run_is_judged_again_beside_its_base(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = evaluated(folder, capsys)
    first = json.loads((folder / "out" / "runs" / "tuned" / "report.json").read_text())["task"]
    assert [item["after"] for item in found["task"]["items"]] == [item["after"] for item in first["items"]]
    assert found["task"]["changes"] == first["changes"]
    place = Path(found["report"]).parent
    assert place == folder / "out" / "evaluations" / "tuned-of-tuned-beside-wide"
    assert {"model", "before", "corpus", "tokens"} <= verify(place).inputs.keys()
    assert len((place / "answers" / "after.jsonl").read_text().splitlines()) == 9
    assert found["task"]["changes"][0]["verdict"] in (place / "report.html").read_text()


def test_any_two_models_are_compared_and_one_never_tuned_is_asked_in_its_best_way(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tuned = str(folder / "out" / "runs" / "tuned")
    found = evaluated(folder, capsys, "--model", str(folder / "wide"), "--before", tuned)
    assert found["before"] == f"{tuned}/model"
    assert found["task"]["after"]["prompt"].startswith("in plain text")
    assert found["task"]["changes"][0]["groups"] > 0
    alone = evaluated(folder, capsys, "--model", str(folder / "wide"))
    assert alone["before"] is None
    assert alone["task"]["changes"] == []


def test_a_gate_on_answers_ends_with_4(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["evaluate", str(folder / "recipe.yaml"), "--out", str(folder / "out")]
    assert run([*arguments, "--set", "evaluate.gate.task=99"]) == 4
    assert "a release needs to be better by at least 99 points" in capsys.readouterr().err
    assert run([*arguments, "--set", "evaluate.gate.general=100%"]) == 0


def test_nothing_to_compare_is_told(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("asked.jsonl", "held.jsonl"):
        shutil.copy(folder / name, tmp_path)
    (tmp_path / "wide").symlink_to(folder / "wide")
    recipe = "\n".join(line for line in RECIPE.splitlines() if "scorers" not in line)
    (tmp_path / "recipe.yaml").write_text(recipe)
    arguments = ["evaluate", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "out")]
    assert run([*arguments, "--model", str(folder / "wide"), "--before", str(folder / "wide")]) == 2
    assert "the recipe asks for none" in capsys.readouterr().err
