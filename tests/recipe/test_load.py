import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from tests.recipe.mistakes import message_of, written

from rhapsode.recipe.load import load_recipe
from rhapsode.recipe.recipe import Recipe, dump_recipe, recipe_schema
from rhapsode.recipe.task import TaskConfig

RECIPES = Path(__file__).parents[2] / "recipes"
TEXT = """\
task:
  name: sagas
  languages: [no, en]
data:
  sources:
  - path: texts
  - path: ${stdlib}
    include: ['*.py']
model:
  size: 3m
train:
  budget: 300 steps
  learning_rate: 1e-4
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return written(tmp_path, TEXT)


def error_of(path: Path, *overrides: str) -> str:
    return message_of(load_recipe, path, *overrides)


def test_a_recipe_is_read(recipe):
    loaded = load_recipe(recipe)
    assert loaded.recipe.task.languages == ["no", "en"]
    assert loaded.recipe.model.size == 3_000_000
    assert loaded.recipe.train.learning_rate == 1e-4
    assert loaded.base_dir == recipe.parent
    assert loaded.text == TEXT


def test_every_value_can_be_located(recipe):
    loaded = load_recipe(recipe, ["model.context=128"])
    assert loaded.locate("model.size") == f"{recipe}:10"
    assert loaded.locate("data.sources[1].include") == f"{recipe}:8"
    assert loaded.locate("model.context") == "--set"
    assert loaded.locate("train.clip") == f"{recipe}:12", "a default stands where its section does"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  budget:", "  budgets:", "mine.yaml:12: train.budgets: unknown key 'budgets'; did you mean 'budget'?"),
        ("size: 3m", "size: 5 parsecs", "mine.yaml:10: model.size: '5 parsecs': unknown unit 'parsecs'; use k, m, b"),
        ("path: texts", "path: tests", "mine.yaml:6: data.sources[0].path: tests does not exist"),
        (
            "path: texts",
            "path: '${NO_SUCH_THING}'",
            "mine.yaml:6: data.sources[0].path: the environment has no variable",
        ),
        (
            "languages: [no, en]",
            "languages: [norsk!]",
            "mine.yaml:3: task.languages[0]: 'norsk!' is not a language tag",
        ),
        ("name: sagas", "name: My Sagas", "mine.yaml:2: task.name: 'My Sagas' is not a name"),
        ("task:\n  name: sagas\n", "task:\n", "mine.yaml:1: task.name: missing; this key is needed"),
        ("1e-4", "1e", "mine.yaml:13: train.learning_rate: expected a number, got text '1e'"),
        ("model:", "train:", "mine.yaml:11: train: key given twice; the first is at mine.yaml:9"),
        (TEXT, "", "mine.yaml: not a recipe: it has no sections"),
        (TEXT, "- a\n", "mine.yaml: not a recipe: it has no sections"),
    ],
)
def test_mistakes_are_named_with_file_line_and_key(recipe, old, new, message):
    recipe.write_text(TEXT.replace(old, new, 1), encoding="utf-8")
    assert error_of(recipe).startswith(message)


def test_all_mistakes_are_reported_at_once(recipe):
    recipe.write_text(TEXT.replace("size:", "sise:").replace("budget:", "budgett:"), encoding="utf-8")
    assert [line.partition(":")[2][:3] for line in error_of(recipe).splitlines()] == ["10:", "12:"]


def test_all_missing_sources_are_reported_at_once(recipe):
    assert len(error_of(recipe, "data.sources=[{path: a}, {path: b}]").splitlines()) == 2


def test_sources_start_from_the_recipe_and_not_from_here(recipe, tmp_path_factory, monkeypatch):
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert load_recipe(recipe).recipe.data.sources[0].path == "texts"


def test_files_that_are_no_recipe(tmp_path):
    assert error_of(tmp_path / "none.yaml") == "none.yaml does not exist"
    (tmp_path / "latin.yaml").write_bytes("task:\n  name: å\n".encode("latin-1"))
    assert error_of(tmp_path / "latin.yaml") == "latin.yaml:2: not UTF-8 text"
    (tmp_path / "folder").mkdir()
    assert error_of(tmp_path / "folder") == "folder: Is a directory"


def test_a_byte_order_mark_is_no_part_of_a_recipe(recipe):
    recipe.write_bytes(b"\xef\xbb\xbf" + TEXT.encode())
    assert load_recipe(recipe).recipe.task.name == "sagas"


def test_overrides_change_values(recipe):
    loaded = load_recipe(
        recipe,
        [
            "train.budget=1.5 epochs",
            "model.size = 64k",
            "data.sources[0].path=.",
            "data.sources[2]={path: texts, licence: CC0}",
            "evaluate.samples.count=0",
            "evaluate.samples={count: 1}",
            "task.purpose=Answer: yes",
            "train.learning_rate=",
        ],
    )
    assert str(loaded.recipe.train.budget) == "1.5 epochs"
    assert loaded.recipe.model.size == 64_000
    assert [source.path for source in loaded.recipe.data.sources] == [".", "${stdlib}", "texts"]
    assert loaded.recipe.evaluate.samples.count == 1
    assert loaded.recipe.task.purpose == "Answer: yes"
    assert loaded.recipe.train.learning_rate is None


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.optimiser=adamw", "--set: train.optimiser: unknown key 'optimiser'; did you mean 'optimizer'?"),
        ("model.size=5 parsecs", "--set: model.size: '5 parsecs': unknown unit"),
        ("data.sources[0].path=nowhere", "--set: data.sources[0].path: nowhere does not exist"),
        ("data.sources[7].path=x", "--set data.sources[7].path=x: there is no [7]; the list has 2"),
        ("train.budget", "--set train.budget: no value"),
        ("=3", "--set =3: the key is empty"),
        ("train..budget=3", "--set train..budget=3: 'train..budget' is not a key"),
        ("task.name.first=3", "--set task.name.first=3: 'first' is below a value that is not a section"),
        ("data.sources=[{path: x", "--set data.sources:1: "),
    ],
)
def test_mistakes_in_overrides_are_named(recipe, override, message):
    assert error_of(recipe, override).startswith(message)


def test_a_dumped_recipe_is_the_same_recipe(recipe):
    first = load_recipe(recipe)
    recipe.write_text(dump_recipe(first.recipe), encoding="utf-8")
    assert load_recipe(recipe).recipe == first.recipe


@given(st.text(st.characters(exclude_categories=["Cs"])), st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_any_text_survives_the_dump(tmp_path_factory, purpose, prompts):
    folder = tmp_path_factory.mktemp("dump")
    task = TaskConfig(name="a", purpose=purpose, prompts=prompts)
    recipe = Recipe.model_validate({"task": task, "data": {"sources": [{"path": "."}]}})
    (folder / "r.yaml").write_text(dump_recipe(recipe), encoding="utf-8")
    assert load_recipe(folder / "r.yaml").recipe == recipe


def test_the_schema_is_json_and_closed():
    schema = recipe_schema()
    json.dumps(schema, allow_nan=False)
    assert set(schema["properties"]) == {"task", "data", "model", "train", "evaluate", "launch", "sweep"}
    assert all(
        part["additionalProperties"] is False for part in [schema, *schema["$defs"].values()] if "properties" in part
    )


def models_below(model: type[BaseModel]) -> set[type[BaseModel]]:
    found = {model}
    for field in model.model_fields.values():
        for part in [field.annotation, *getattr(field.annotation, "__args__", ())]:
            if isinstance(part, type) and issubclass(part, BaseModel):
                found |= models_below(part)
    return found


@pytest.mark.parametrize("model", sorted(models_below(Recipe), key=lambda model: model.__name__))
def test_every_field_is_described(model):
    for name, field in model.model_fields.items():
        assert field.description, f"{model.__name__}.{name}"
        assert field.description.endswith(".")
