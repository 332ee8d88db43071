"""The recipes that people copy: each loads, and on the real sets each finds what it needs on both sides.

The sets are `shared/data` beside the project, or where RHAPSODE_TEST_DATA says.
"""

import os
import re
from pathlib import Path

import pytest
from tests.recipe.bases import make_base

from rhapsode.cli.app import run
from rhapsode.core.events import Events
from rhapsode.core.manifest import read_manifest
from rhapsode.corpus.examples.prepare import prepare_examples
from rhapsode.recipe.load import LoadedRecipe, load_recipe
from rhapsode.tasks.pack import Pack
from rhapsode.tasks.project import new_project
from rhapsode.tasks.registry import packs

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("RHAPSODE_TEST_DATA") or ROOT.parent / "shared" / "data")
SETS = {
    "CLINC150": "task/clinc150",
    "MTS_DIALOG": "task/mts-dialog",
    "MULTI30K": "task-noncommercial/multi30k",
    "FINANCIAL_PHRASEBANK": "task-noncommercial/financial-phrasebank",
    "DOCSTRINGS": "task/docstring-gen/train.jsonl.zst",
    "HH_RLHF": "preference/hh-rlhf-harmless-test/harmless-base-test.jsonl.zst",
    "SIMPLE_ARITHMETIC": "eval/eval-gauntlet/symbolic_problem_solving__simple_arithmetic_withspaces.jsonl.zst",
}
HELD_OUT = {
    "support-intents": 5500,
    "intent-head": 5500,
    "clinical-notes": 200,
    "translate-en-de": 1000,
    "finance-sentiment": 690,
    "docstrings": 490,
    "code-search": 490,
    "preference": 340,
    "reward": 340,
    "arithmetic": 400,
    "arithmetic-grpo": 400,
}
"""About so many examples; where a hash decides, a tenth more or less."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("bases") / "gemma", "gemma3_text", context=2048)


def loaded(path: Path, base: Path) -> LoadedRecipe:
    return load_recipe(path, [f"model.base={base}"])


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_recipe_loads_when_its_paths_lead_somewhere(
    path: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And says in its head which variables it reads."""
    text = path.read_text(encoding="utf-8")
    for name, rest in set(re.findall(r"\$\{([A-Z0-9_]+)\}(\S*)", text)):
        assert f"# export {name}=" in text
        place = tmp_path / name
        monkeypatch.setenv(name, str(place))
        (place / rest.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
        (place / rest.lstrip("/")).touch()
    recipe = (load_recipe(path) if "base:" not in text else loaded(path, base)).recipe
    assert recipe.task.name == path.stem
    assert recipe.data.sources or recipe.train.adapter


@pytest.mark.skipif(not DATA.is_dir(), reason=f"{DATA} is absent; RHAPSODE_TEST_DATA may name another")
@pytest.mark.parametrize("name", HELD_OUT)
def test_a_recipe_reads_its_real_set(name: str, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, place in SETS.items():
        monkeypatch.setenv(variable, str(DATA / place))
    given = loaded(ROOT / "recipes" / f"{name}.yaml", base)
    corpus = prepare_examples(given.recipe.data, root=tmp_path, base=given.base_dir, events=Events())
    counts = read_manifest(corpus).facts["documents"]
    assert counts["validation"] == pytest.approx(HELD_OUT[name], rel=0.15)
    assert counts["train"] > counts["validation"] / 4
    assert counts["dropped"] < counts["read"] / 50


@pytest.mark.parametrize("pack", packs(), ids=lambda pack: pack.name)
def test_the_recipe_of_a_new_project_loads(pack: Pack, base: Path, tmp_path: Path) -> None:
    new_project(pack, tmp_path / "p", base=str(base))
    given = load_recipe(tmp_path / "p" / "recipe.yaml")
    assert given.recipe.task.name == pack.name
    assert given.recipe.data.examples[0].templates == pack.templates
    assert given.recipe.evaluate.task is not None
    assert given.recipe.evaluate.task.scorers == pack.scorers


@pytest.mark.slow
def test_a_new_project_walks_the_whole_road(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unchanged but for its length: a model without a mind learns enough in twenty steps to have a report."""
    monkeypatch.chdir(tmp_path)
    assert run(["new", "code", "--base", str(base)]) == 0
    monkeypatch.chdir(tmp_path / "code")
    short = ["train.budget=20 steps", "train.learning_rate=0.01", "evaluate.task.items=10", "evaluate.task.shots=[0]"]
    assert run(["run", "recipe.yaml", *(word for change in short for word in ("--set", change))]) == 0
    report = Path("out/runs/code/report.html").read_text(encoding="utf-8")
    assert "rougeL" in report
    assert "def sum_of_even_scores" in report
