"""Lists of values in a recipe become runs, each an ordinary recipe."""

import json
from pathlib import Path

import pytest
from tests.recipe.mistakes import message_of, written

from rhapsode.core.errors import RecipeError
from rhapsode.core.events import Events
from rhapsode.recipe.layout import Layout
from rhapsode.recipe.load import load_recipe
from rhapsode.recipe.plan import make_plan
from rhapsode.recipe.recipe import Recipe, dump_recipe
from rhapsode.recipe.sweep.members import Sweep, load_runs
from rhapsode.recipe.task import LONGEST, NAME

TEXT = """\
task: {name: sagas}
data:
  sources: [{path: texts}]
train:
  learning_rate: 0.03
sweep:
  train.learning_rate: [0.01, 0.02]
  model.seed:
  - 0
  - 1
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return written(tmp_path, TEXT)


def sweep_of(path: Path, *overrides: str) -> Sweep:
    found = load_runs(path, overrides)
    assert isinstance(found, Sweep)
    return found


def error_of(path: Path, *overrides: str) -> str:
    return message_of(load_runs, path, *overrides)


def test_every_combination_is_a_run_with_these_values_in_its_recipe(path):
    sweep = sweep_of(path)
    assert sweep.name == "sagas"
    found = [(m.name, m.loaded.recipe.train.learning_rate, m.loaded.recipe.model.seed) for m in sweep.members]
    assert found == [
        ("sagas-learning-rate-0-01-seed-0", 0.01, 0),
        ("sagas-learning-rate-0-01-seed-1", 0.01, 1),
        ("sagas-learning-rate-0-02-seed-0", 0.02, 0),
        ("sagas-learning-rate-0-02-seed-1", 0.02, 1),
    ]
    assert [m.values for m in sweep.members][1] == {"train.learning_rate": 0.01, "model.seed": 1}
    assert sweep.seeds == ["model.seed"]


def test_a_run_is_the_recipe_that_set_would_make(path):
    ordinary = ["sweep={}", "train.learning_rate=0.02", "model.seed=1", "task.name=sagas-learning-rate-0-02-seed-1"]
    loaded = sweep_of(path).members[3].loaded
    assert loaded.recipe == load_recipe(path, ordinary).recipe
    assert loaded.locate("model.seed") == f"{path}:10"
    assert loaded.locate("train.learning_rate") == f"{path}:7"


def test_a_run_has_the_plan_of_the_ordinary_recipe(recipe_path, tmp_path):
    def plan(loaded):
        return make_plan(loaded, layout=Layout(tmp_path / "out"), events=Events()).hash

    sweep = sweep_of(recipe_path, "sweep.train.learning_rate=[0.01, 0.02]")
    hashes = [plan(member.loaded) for member in sweep.members]
    ordinary = ["train.learning_rate=0.02", "task.name=small-learning-rate-0-02"]
    assert hashes[1] == plan(load_recipe(recipe_path, ordinary))
    assert hashes[0] != hashes[1]


def test_a_list_may_be_given_on_the_command_line(path):
    sweep = sweep_of(path, "sweep.train.learning_rate=[0.5]", "sweep.data.split.validation=[5%, 10%, 20%]")
    assert [m.loaded.recipe.data.split.validation for m in sweep.members] == [0.05, 0.1, 0.2] * 2
    assert sweep.members[0].name == "sagas-learning-rate-0-5-seed-0-validation-5"
    assert sweep.members[0].loaded.locate("data.split.validation") == "--set"


def test_a_recipe_without_lists_is_one_run(path):
    loaded = load_runs(path, ["sweep={}"])
    assert not isinstance(loaded, Sweep)
    assert loaded.recipe.train.learning_rate == 0.03


def test_where_one_run_is_needed_a_sweep_is_refused(path):
    with pytest.raises(RecipeError, match=r"mine.yaml:6: sweep: one run is needed here"):
        load_recipe(path)


def test_sections_and_lists_are_values_too(path):
    text = TEXT.replace("train.learning_rate: [0.01, 0.02]", "evaluate.samples: [{count: 1}, {count: 2}]")
    path.write_text(text.replace("model.seed:", "evaluate.baselines:").replace("- 0", "- []").replace("- 1", "- [xz]"))
    found = [
        (m.loaded.recipe.evaluate.samples.count, m.loaded.recipe.evaluate.baselines) for m in sweep_of(path).members
    ]
    assert found == [(1, ()), (1, ("xz",)), (2, ()), (2, ("xz",))]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("train.learning_rate:", "train.learning_rat:", "mine.yaml:7: train.learning_rat: unknown key 'learning_rat'"),
        ("- 1", "- many", "mine.yaml:10: model.seed: 'many' is not a number"),
        ("[0.01, 0.02]", "[]", "mine.yaml:7: sweep.train.learning_rate: no values to try; give at least one"),
        ("[0.01, 0.02]", "0.01", "mine.yaml:7: sweep.train.learning_rate: expected a list, got 0.01"),
        ("[0.01, 0.02]", "[0.01, 1e-2]", "mine.yaml:7: sweep.train.learning_rate: 0.01 is given twice"),
        (
            "train.learning_rate: [0.01, 0.02]",
            "train.warmup: [5%, 0.05]",
            "mine.yaml:7: sweep.train.warmup: 0.05 is the same as 5%",
        ),
        ("train.learning_rate:", "train..learning_rate:", "mine.yaml:7: sweep: 'train..learning_rate' is not a key"),
        ("train.learning_rate:", "task.name:", "mine.yaml:7: sweep.task.name: every run of a sweep gets its name"),
        (
            "train.learning_rate:",
            "sweep.model.seed:",
            "mine.yaml:7: sweep.sweep.model.seed: runs differ in what they do",
        ),
        ("train.learning_rate:", "model:", "mine.yaml:8: sweep.model.seed: model is swept too, and one lies within"),
        ("train.learning_rate:", "task.name.x:", "mine.yaml:7: sweep.task.name.x: 'x' is below a value that is not"),
        ("train.learning_rate:", "'data.sources[2].path':", "mine.yaml:7: sweep.data.sources[2].path: there is no [2]"),
        (
            "[0.01, 0.02]",
            str([n / 1000 for n in range(1, 34)]),
            "mine.yaml:6: sweep: 33 x 2 values are 66 runs; at most 64",
        ),
        ("[0.01, 0.02]", "[0.01, 0]", "mine.yaml:7: train.learning_rate: 0: input should be greater than 0"),
        (
            "train.learning_rate: [0.01, 0.02]",
            "data.sources: [[{path: no}]]",
            "mine.yaml:7: data.sources[0].path: no does",
        ),
        ("name: sagas", f"name: {'s' * 60}", f"mine.yaml:1: task.name: '{'s' * 60}' leaves no room"),
        ("name: sagas", "nam: sagas", "mine.yaml:1: task.name: missing; this key is needed"),
        (TEXT[TEXT.index("sweep:") :], "sweep:\n", "mine.yaml:6: sweep: expected a section"),
    ],
)
def test_mistakes_are_named_with_file_line_and_key(path, old, new, message):
    path.write_text(TEXT.replace(old, new), encoding="utf-8")
    assert error_of(path).startswith(message)


def test_mistakes_of_all_runs_are_reported_at_once(path):
    path.write_text(TEXT.replace("0.02]", "-1]").replace("- 1", "- many"), encoding="utf-8")
    assert [line.partition(":")[2][:3] for line in error_of(path).splitlines()] == ["10:", "7: "]


def test_a_value_that_no_run_would_have_is_refused(path):
    said = error_of(path, "train.learning_rate=0.5")
    assert said.startswith("--set: train.learning_rate: the sweep at mine.yaml:7 gives it another value in every run")


def test_names_that_are_too_long_or_not_unique_are_hashes_and_stay_when_a_list_grows(path):
    prompts = json.dumps([["a"], ["A!"], [LONGEST * "b"], ["c"]])
    names = [m.name for m in sweep_of(path, f"sweep.task.prompts={prompts}", "sweep.model.seed=[0]").members]
    assert len(set(names)) == len(names) == 8
    assert all(NAME.fullmatch(name) and len(name) <= LONGEST for name in names)
    assert names[3] == "sagas-learning-rate-0-01-seed-0-prompts-c"
    assert [len(name) for name in names[:3]] == [len("sagas-") + 8] * 3
    grown = [m.name for m in sweep_of(path, f"sweep.task.prompts={prompts}", "sweep.model.seed=[1, 0]").members]
    assert set(names) < set(grown)


def test_keys_that_end_alike_are_told_apart(path):
    sweep = sweep_of(path, "sweep.train.seed=[7]")
    assert sweep.labels == {
        "train.learning_rate": "learning_rate",
        "model.seed": "model.seed",
        "train.seed": "train.seed",
    }
    assert sweep.members[0].name == "sagas-learning-rate-0-01-model-seed-0-train-seed-7"


def test_a_dumped_sweep_is_the_same_sweep(path):
    value = {"train.learning_rate": [0.01, None], "data.sources": [[{"path": "texts"}]]}
    recipe = Recipe.model_validate({"task": {"name": "a"}, "data": {"sources": [{"path": "."}]}, "sweep": value})
    path.write_text(dump_recipe(recipe), encoding="utf-8")
    assert [m.values for m in sweep_of(path).members] == [
        {"train.learning_rate": rate, "data.sources": [{"path": "texts"}]} for rate in (0.01, None)
    ]
    assert "sweep" not in dump_recipe(sweep_of(path).members[0].loaded.recipe)
