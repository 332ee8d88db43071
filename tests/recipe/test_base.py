"""What a recipe may say of the model that it starts from, and what the plan says of it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.recipe.bases import make_base

from rhapsode.core.errors import PlanRefused, RecipeError, VerificationMismatch
from rhapsode.core.events import Events
from rhapsode.core.manifest import digest
from rhapsode.model.config import FROM_SCRATCH
from rhapsode.recipe.base import find_base
from rhapsode.recipe.begin import begin_of_pieces
from rhapsode.recipe.layout import Layout
from rhapsode.recipe.load import load_recipe
from rhapsode.recipe.plan import Plan, make_plan
from rhapsode.recipe.recipe import Recipe, dump_recipe
from rhapsode.recipe.run import plan_run, train_run, walking
from rhapsode.train.trainer import Trainer

ALTERNATIVES = {"size": "5m", "family": "qwen3", "tied": "true", "depth": "3", "width": "64", "seed": "0"}

only_gemma = pytest.mark.parametrize("based_path", ["gemma3_text"], indirect=True)


def error_of(path: Path, *overrides: str) -> RecipeError:
    with pytest.raises(RecipeError) as error:
        load_recipe(path, overrides)
    assert error.value.exit_code == 2
    return error.value


def plan_of(path: Path, out: Path, *overrides: str) -> Plan:
    return make_plan(load_recipe(path, overrides), layout=Layout(out), events=Events())


@only_gemma
@pytest.mark.parametrize("name", FROM_SCRATCH)
def test_what_the_base_has_settled_cannot_be_set(based_path, name):
    """Be it to the default: nobody should think that it had an effect."""
    text = based_path.read_text().replace("context: 64}", f"context: 64,\n  {name}: {ALTERNATIVES[name]}}}")
    based_path.write_text(text)
    line = next(n for n, line in enumerate(text.splitlines(), 1) if f"{name}: {ALTERNATIVES[name]}" in line)
    message = f"{based_path}:{line}: model.{name}: model.base has settled this already; leave one of the two out"
    assert error_of(based_path).message == message


@only_gemma
def test_nothing_of_a_vocabulary_to_learn_can_be_set(based_path):
    error = error_of(based_path, "data.tokens={vocab_size: 300, sample: 1 MB, shard_tokens: 500}")
    assert error.message.splitlines() == [
        f"--set: data.tokens.{name}: model.base has settled this already; leave one of the two out"
        for name in ("vocab_size", "sample")
    ]
    assert load_recipe(based_path, ["data.tokens.shard_tokens=500"]).recipe.data.tokens.shard_tokens == 500


@only_gemma
def test_a_rate_beside_muon_needs_muon(based_path, recipe_path):
    assert "train.optimizer is adamw here" in error_of(based_path, "train.embedding_learning_rate=0.1").message
    change = ["train.embedding_learning_rate=0.1"]
    assert load_recipe(based_path, [*change, "train.optimizer=muon"]).base is not None
    assert load_recipe(recipe_path, change).base is None
    assert error_of(recipe_path, *change, "train.optimizer=adamw").message.startswith("--set: train.embedding_learn")


@only_gemma
def test_a_base_that_is_not_here_can_be_pulled(based_path):
    error = error_of(based_path, "model.base=gemma-99")
    assert error.message == "--set: model.base: gemma-99 is not here"
    assert error.hint == "rhapsode models pull gemma-99"


@only_gemma
def test_what_is_no_complete_model_is_not_started_from(based_path, bases):
    here = based_path.parent
    (here / "run").mkdir()
    assert error_of(based_path, "model.base=run").message == f"--set: model.base: {here / 'run'} holds no model"
    shutil.copytree(bases / "qwen2", here / "raw")
    (here / "raw" / "manifest.json").unlink()
    error = error_of(based_path, "model.base=raw")
    assert error.message.endswith("raw is a model directory without manifest.json: it was never checked")
    assert error.hint == f"rhapsode models pull {here / 'raw'}"
    (here / "weights.gguf").write_bytes(b"GGUF")
    assert error_of(based_path, "model.base=weights.gguf").hint == f"rhapsode models pull {here / 'weights.gguf'}"


@only_gemma
def test_a_base_that_is_not_understood_is_refused_by_name(based_path, bases):
    odd = shutil.copytree(bases / "qwen2", based_path.parent / "odd")
    config = json.loads((odd / "config.json").read_text())
    (odd / "config.json").write_text(json.dumps({**config, "secret_sauce": 3}))
    message = error_of(based_path, "model.base=odd").message
    assert message.startswith("--set: model.base: ")
    assert "secret_sauce" in message


@only_gemma
def test_a_damaged_manifest_is_a_mismatch(based_path, bases):
    torn = shutil.copytree(bases / "qwen2", based_path.parent / "torn")
    (torn / "manifest.json").write_text("{")
    with pytest.raises(VerificationMismatch):
        load_recipe(based_path, ["model.base=torn"])


def test_a_row_is_at_most_what_the_base_reads(based_path):
    error = error_of(based_path, "model.context=65")
    assert error.message == "--set: model.context: 65 tokens are more than the 64 that somebody/tiny reads"
    based_path.write_text(based_path.read_text().replace(", context: 64", ""))
    line = 1 + based_path.read_text().splitlines().index(f"model: {{base: bases/{load_base(based_path)}}}")
    assert error_of(based_path).message.startswith(f"{based_path}:{line}: model.context: 512 tokens")


def load_base(path: Path) -> str:
    """Which of the two it is."""
    return "qwen2" if "qwen2" in path.read_text() else "gemma3_text"


def test_a_pulled_model_is_found_by_its_name_and_by_its_repository(tmp_path, monkeypatch):
    monkeypatch.setenv("RHAPSODE_HOME", str(tmp_path / "home"))
    path = make_base(tmp_path / "home" / "models" / "tiny-q", "qwen2")
    for name in ("tiny-q", "somebody/tiny"):
        base = find_base(name, beside=tmp_path)
        assert (base.directory, base.reference, base.title) == (path, name, "somebody/tiny")
    assert base.sha256 == digest(path)
    assert base.licence == "gemma"
    assert [paper.name for paper in base.papers] == ["GEMMA_TERMS.html", "NOTICE"]


def test_a_model_without_a_repository_goes_by_its_own_name(tmp_path):
    make_base(tmp_path / "mine", "qwen2", facts={"source": "local"})
    base = find_base("mine", beside=tmp_path)
    assert (base.title, base.reference) == ("mine", str(tmp_path / "mine"))


def test_the_model_of_a_run_goes_by_the_name_of_the_run(tmp_path):
    make_base(tmp_path / "runs" / "sums" / "model", "qwen2", facts={"source": "local"})
    by_its_path, by_its_run = (find_base(path, beside=tmp_path) for path in ("runs/sums/model", "runs/sums"))
    assert by_its_path == by_its_run
    assert by_its_path.title == "sums"


@only_gemma
def test_a_path_that_leads_nowhere_is_not_taken_for_a_hubs_name(based_path):
    error = error_of(based_path, "model.base=../out/runs/sums/model")
    assert error.message.endswith("out/runs/sums/model is not there")
    assert "out/runs/NAME" in error.hint


def test_the_plan_shows_the_base_and_hashes_it(based_path, tmp_path):
    plan = plan_of(based_path, tmp_path / "out")
    base = load_recipe(based_path).base
    assert base is not None
    said = {decision.name: decision for decision in plan.decisions}
    assert said["base"].value == "somebody/tiny"
    assert digest(base.directory)[:12] in said["base"].because
    assert said["licence"].value == "gemma"
    assert said["parameters"].value == f"{base.spec.parameters:,}"
    assert "depth L" not in said
    assert (plan.train.base, plan.train.init_seed, plan.train.optimizer) == (base.sha256, None, "adamw")
    assert plan.settled["train"]["base"] == digest(base.directory)
    assert plan.train.spec.config == base.spec.config
    assert plan.train.context == 64


def test_every_piece_begins_as_the_base_has_always_read_it(based_path, tmp_path):
    """Gemma never met a text without bos; Qwen has none."""
    plan = plan_of(based_path, tmp_path / "out")
    said = {decision.name: decision.value for decision in plan.decisions}
    assert sum(len(plan.data.training.row(row)) for row in range(plan.data.training.num_rows)) > 80
    loader = Trainer(plan.train, plan.data, device=plan.device, base=plan.base_directory).load
    rows = loader(0)
    starts = rows.ids[(rows.positions == 0) & (rows.documents > 0)]
    if plan.train.spec.family == "gemma3_text":
        assert said["every piece begins with"] == "<bos>"
        assert set(starts.tolist()) == {plan.data.tokenizer.bos}
        assert {sample.sequences[0][0].text for sample in plan.samples} == {"<bos>"}
    else:
        assert "every piece begins with" not in said
        assert len(set(starts.tolist())) > 1


def test_a_model_from_scratch_passes_on_that_pieces_begin_as_they_are(recipe_path, tmp_path):
    loaded = load_recipe(recipe_path)
    with walking(loaded, layout=Layout(tmp_path / "out"), events=Events(), resume=False) as walk:
        plan, cost = plan_run(loaded, layout=walk.layout, events=Events())
        model = train_run(walk, plan, cost, resume=False)
    change = [f"model={{base: {model}, context: 32}}", "data.tokens={}", "task.name=second"]
    second = plan_of(recipe_path, tmp_path / "out", *change)
    assert (plan.train.begin, second.train.begin) == (None, None)
    assert second.base is not None
    assert second.base.licence == "unknown"
    assert begin_of_pieces(second.data.tokenizer, {}) == second.data.tokenizer.bos


@only_gemma
def test_the_plan_depends_on_every_byte_of_the_base(based_path, tmp_path):
    first = plan_of(based_path, tmp_path / "out")
    other = make_base(tmp_path / "other", "gemma3_text", seed=1)
    moved = shutil.copytree(load_recipe(based_path).base.directory, tmp_path / "moved")
    assert plan_of(based_path, tmp_path / "out", f"model.base={other}").hash != first.hash
    assert plan_of(based_path, tmp_path / "out", f"model.base={moved}").hash == first.hash


def test_the_recipe_in_full_is_planned_the_same_from_anywhere(based_path, tmp_path, monkeypatch):
    plan = plan_of(based_path, tmp_path / "out")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "recipe.yaml").write_text(dump_recipe(plan.recipe_in_full))
    monkeypatch.chdir(elsewhere)
    assert plan_of(Path("recipe.yaml"), tmp_path / "out").hash == plan.hash


def test_a_recipe_with_a_base_survives_the_dump(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    make_base(tmp_path / "mine", "qwen2")
    value: dict[str, Any] = {"task": {"name": "a"}, "data": {"sources": [{"path": "a.txt"}]}}
    recipe = Recipe.model_validate(value | {"model": {"base": "mine", "context": 64}})
    (tmp_path / "r.yaml").write_text(dump_recipe(recipe))
    assert load_recipe(tmp_path / "r.yaml").recipe == recipe


@only_gemma
def test_a_token_that_the_base_has_no_row_for_is_refused(based_path, bases, tmp_path):
    small = shutil.copytree(bases / "gemma3_text", tmp_path / "small")
    config = json.loads((small / "config.json").read_text())
    (small / "config.json").write_text(json.dumps({**config, "vocab_size": 270}))
    with pytest.raises(PlanRefused, match="its tokenizer has the token .*, and the model 270 rows"):
        plan_of(based_path, tmp_path / "out", f"model.base={small}")
