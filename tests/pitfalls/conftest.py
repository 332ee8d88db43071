"""Real faults, planted where a user would meet them, and one short tuning that several of them spoil."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.recipe import conftest as recipe
from tests.train import conftest as train

from rhapsode.core.events import Events
from rhapsode.recipe.layout import Layout
from rhapsode.recipe.load import load_recipe
from rhapsode.recipe.plan import Plan, make_plan
from rhapsode.recipe.run import plan_run, train_run, walking
from rhapsode.text.tokenizer import Tokenizer
from rhapsode.train.forecast import Forecast
from rhapsode.train.settle import Here

bases, data = recipe.bases, train.data

RECIPE = """
task: {name: tuned}
data: {examples: [{path: rows.jsonl}], split: {validation: 0.2}}
model: {base: bases/wide, context: 96}
train: {budget: 40 steps, batch_tokens: 384, learning_rate: 0.02, precision: fp32, adapter: {rank: 4}, samples: 0,
        validate_every: 20, save_every: 20}
evaluate: {task: {scorers: [accuracy]}}
"""
COLOURS = ("red", "green", "blue")
Row = dict[str, Any]


def answered(count: int) -> list[Row]:
    return [{"prompt": f"Which colour has ship {n}?", "completion": f" {COLOURS[n % 3]}"} for n in range(count)]


def conversation(asked: str, answer: str) -> Row:
    return {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]}


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


class Project:
    """A folder with a recipe, its rows, and bases to tune."""

    def __init__(self, folder: Path, bases: Path, *, rows: Sequence[Row] | None = None) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.recipe, self.layout = folder, folder / "tuned.yaml", Layout(folder / "out")
        self.recipe.write_text(RECIPE)
        (folder / "bases").symlink_to(bases)
        self.write(rows or answered(40))

    def write(self, rows: Sequence[Row], *, name: str = "rows") -> None:
        write_rows(self.folder / f"{name}.jsonl", rows)

    def plan(self, *changes: str) -> Plan:
        """What would happen, without a forecast."""
        return make_plan(load_recipe(self.recipe, changes), layout=self.layout, events=Events(), here=Here())


class Tuned(NamedTuple):
    """A project that was walked to its merged model."""

    project: Project
    plan: Plan
    cost: Forecast
    adapter: Path
    model: Path


@pytest.fixture
def project(tmp_path: Path, bases: Path) -> Project:
    return Project(tmp_path / "project", bases)


@pytest.fixture(scope="session")
def tuned(tmp_path_factory: pytest.TempPathFactory, bases: Path) -> Tuned:
    """Forty steps of an adapter of rank 4 upon a tiny base."""
    project = Project(tmp_path_factory.mktemp("tuned"), bases)
    loaded, events = load_recipe(project.recipe), Events()
    with walking(loaded, layout=project.layout, events=events, resume=False) as walk:
        plan, cost = plan_run(loaded, layout=project.layout, events=events)
        model = train_run(walk, plan, cost, resume=False)
    return Tuned(project, plan, cost, walk.run_dir / "step-000040", model)


class Vocabularies:
    """Copies of a base's tokenizer with another chat template."""

    def __init__(self, bases: Path, folder: Path) -> None:
        self._bases, self._folder = bases, folder

    def folder(self, template: str, *, base: str = "wide") -> Path:
        path = self._folder / f"words-{len(list(self._folder.iterdir()))}"
        path.mkdir(parents=True)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copyfile(self._bases / base / name, path / name)
        config = json.loads((path / "tokenizer_config.json").read_text()) | {"chat_template": template}
        (path / "tokenizer_config.json").write_text(json.dumps(config))
        return path

    def __call__(self, template: str, *, base: str = "wide") -> Tokenizer:
        return Tokenizer.load(self.folder(template, base=base))


@pytest.fixture
def vocabulary(bases: Path, tmp_path: Path) -> Vocabularies:
    (tmp_path / "vocabularies").mkdir()
    return Vocabularies(bases, tmp_path / "vocabularies")
