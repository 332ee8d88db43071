"""Every field of the recipe does something: it changes what is settled, and some code reads it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
from pydantic import BaseModel

from rhapsode.core.config import Config
from rhapsode.core.errors import RhapsodeError
from rhapsode.core.events import Events
from rhapsode.corpus.tokens_config import LEARNED
from rhapsode.model.config import FROM_SCRATCH
from rhapsode.recipe.findings import evaluate_run
from rhapsode.recipe.layout import Layout
from rhapsode.recipe.load import LoadedRecipe, load_recipe
from rhapsode.recipe.plan import make_plan
from rhapsode.recipe.recipe import Recipe
from rhapsode.recipe.run import plan_run, train_run, walking
from rhapsode.recipe.sweep.members import Sweep, load_runs

# A value for every field that must change what happens to the corpus of conftest.py. A new field needs one here.
ALTERNATIVES = {
    "task.name": "other",
    "task.purpose": "sings",
    "task.languages": "[pt]",
    "task.prompts": "[Sing]",
    "data.sources[0].path": "texts/song1.txt",
    "data.sources[0].name": "songs",
    "data.sources[0].licence": "CC0-1.0",
    "data.sources[0].include": "['*.txt']",
    "data.sources[0].exclude": "['*.py']",
    "data.sources[0].text_field": "body",
    "data.sources[0].kind": "code",
    "data.clean.repair_unicode": "false",
    "data.clean.min_chars": "400",
    "data.clean.max_chars": "300",
    "data.clean.max_replacement_share": "0",
    "data.clean.max_control_share": "0",
    "data.clean.max_encoded_share": "0",
    "data.clean.prose.min_alphanumeric_share": "1.0",
    "data.clean.prose.max_repeated_line_share": "0",
    "data.clean.prose.max_repeated_ngram_share": "0",
    "data.clean.prose.max_lorem_ipsum_share": "0",
    "data.clean.code.max_generated_notices": "null",
    "data.clean.code.max_line_chars": "30",
    "data.clean.code.max_mean_line_chars": "10",
    "data.clean.code.min_alphanumeric_share": "1.0",
    "data.clean.code.max_data_line_share": "0",
    "data.clean.code.max_repeated_line_share": "0",
    "data.clean.code.max_repeated_ngram_share": "0",
    "data.deduplicate": "off",
    "data.split.validation": "0.5",
    "data.split.group": "folder",
    "data.split.seed": "1",
    "data.max_document_bytes": "300",
    "data.tokens.vocab_size": "320",
    "data.tokens.sample": "500",
    "data.tokens.new_pieces": "9",
    "data.tokens.new_special": "['<|verse|>']",
    "data.tokens.shard_tokens": "500",
    "model.base": "bases/gemma3_text",
    "model.size": "400k",
    "model.family": "llama",
    "model.context": "32",
    "model.tied": "false",
    "model.depth": "3",
    "model.width": "128",
    "model.seed": "1",
    "train.budget": "1 epochs",
    "train.recompute": "true",
    "train.parallel": "shard",
    "train.tensor": "2",
    "train.batch_tokens": "128",
    "train.micro_batch_rows": "1",
    "train.optimizer": "adamw",
    "train.learning_rate": "0.001",
    "train.embedding_learning_rate": "0.001",
    "train.weight_decay": "0.5",
    "train.warmup": "0.5",
    "train.decay": "0.2",
    "train.clip": "0.1",
    "train.precision": "fp32",
    "train.seed": "1",
    "train.validate_every": "1",
    "train.validation_tokens": "64",
    "train.samples": "1",
    "train.save_every": "1",
    "train.keep": "1",
    "train.keep_every": "3",
    "train.spike": "null",
    "train.max_skips": "4",
    "evaluate.baselines": "[xz]",
    "evaluate.documents": "2",
    "evaluate.baseline_tokens": "1000",
    "evaluate.confidence": "0.8",
    "evaluate.resamples": "100",
    "evaluate.seed": "1",
    "evaluate.samples.count": "1",
    "evaluate.samples.max_tokens": "4",
    "evaluate.samples.temperature": "1.0",
    "evaluate.samples.opening_words": "5",
    "evaluate.gate.below_best_baseline": "12%",
    "sweep": "{train.learning_rate: [0.01, 0.02]}",
}
# Of a recipe that tunes on examples.
ALTERNATIVES_TUNED = {
    "data.examples[0].path": "other.jsonl",
    "data.examples[0].name": "ships",
    "data.examples[0].licence": "CC0-1.0",
    "data.examples[0].shape": "openai",
    "data.examples[0].fields": "{prompt: text}",
    "data.examples[0].templates": "{prompt: 'Ship {ship}?', completion: '{colour}'}",
    "data.examples[0].split": "auto",
    "data.examples[0].drop_faults": "false",
    "data.split.group": "completion",
    "data.overlap": "refuse",
    "data.alike": "0.01",
    "data.too_long": "refuse",
    "train.objective": "dpo",
    "train.adapter.rank": "8",
    "train.adapter.alpha": "8",
    "train.adapter.targets": "[q_proj]",
    "train.adapter.layers": "[0]",
    "train.adapter.kind": "dora",
    "train.adapter.rslora": "true",
    "train.storage": "int8",
    "evaluate.task.scorers": "[exact]",
    "evaluate.task.max_tokens": "3",
    "evaluate.task.temperature": "1.0",
    "evaluate.task.items": "3",
    "evaluate.task.shots": "[1]",
    "evaluate.task.shots_items": "3",
    "evaluate.task.examples": "1",
    "evaluate.task.general.documents": "3",
    "evaluate.task.general.characters": "300",
    "evaluate.gate.task": "better",
    "evaluate.gate.general": "5%",
}
# Where a base is trained further, other values are the usual ones.
ALTERNATIVES_BASED = {
    "train.optimizer": "muon",
    "train.learning_rate": "0.02",
    "train.batch_tokens": "256",
    "train.precision": "bf16",
}
SETTLED_BY_BASE = {*(f"model.{name}" for name in FROM_SCRATCH), *(f"data.tokens.{name}" for name in LEARNED)}


def leaves(model: type[BaseModel], key: str = "") -> Iterator[tuple[str, type[BaseModel], str]]:
    """(key, class, field) of every field that is not a section itself."""
    for name, field in model.model_fields.items():
        here = f"{key}.{name}".strip(".")
        parts = [field.annotation, *get_args(field.annotation)]
        section = next((p for p in parts if isinstance(p, type) and issubclass(p, BaseModel)), None)
        if section is None:
            yield here, model, name
        else:
            yield from leaves(section, here + "[0]" * (get_origin(field.annotation) is list))


def settled_leaves() -> Iterator[tuple[str, type[BaseModel], str]]:
    """Those of what is done; where it is done is for tests/launch."""
    return (leaf for leaf in leaves(Recipe) if not leaf[0].startswith("launch."))


def settle(path: Path, out: Path, *changes: str) -> dict[str, Any]:
    try:
        given = load_runs(path, changes)
        if isinstance(given, Sweep):
            return {member.name: _settled(member.loaded, out) for member in given.members}
        return _settled(given, out)
    except RhapsodeError as error:
        return {"refused": error.message}


def _settled(loaded: LoadedRecipe, out: Path) -> dict[str, Any]:
    settled = make_plan(loaded, layout=Layout(out), events=Events()).settled
    for part in ("corpus", "tokens"):
        settled[part]["files"].pop("report.json")  # it repeats the recipe: what counts is the text and the tokens
    value: dict[str, Any] = json.loads(json.dumps(settled))
    return value


def test_every_field_has_an_alternative():
    assert {key for key, _, _ in settled_leaves()} == {*ALTERNATIVES, *ALTERNATIVES_TUNED}


def test_every_field_changes_what_is_settled(recipe_path, tmp_path):
    before = settle(recipe_path, tmp_path / "out")
    dead = [
        key for key, value in ALTERNATIVES.items() if settle(recipe_path, tmp_path / "out", f"{key}={value}") == before
    ]
    assert not dead, ", ".join(dead)


def test_every_field_about_examples_changes_what_is_settled(tuned_path, tmp_path):
    before = settle(tuned_path, tmp_path / "out")
    assert "refused" not in before
    after = {key: settle(tuned_path, tmp_path / "out", f"{key}={v}") for key, v in ALTERNATIVES_TUNED.items()}
    assert not [key for key, value in after.items() if value == before]
    refused = {key for key, value in after.items() if "refused" in value}
    assert refused == {
        "data.examples[0].shape",
        "data.examples[0].templates",
        "data.examples[0].drop_faults",
        "data.split.group",
        "data.overlap",
        "data.alike",
        "data.too_long",
        "train.objective",
    }


def test_where_a_run_happens_is_not_part_of_the_plan(recipe_path, tmp_path):
    launched = settle(recipe_path, tmp_path / "out", "launch={nodes: 8, per_node: 8, time: 12h}")
    assert launched == settle(recipe_path, tmp_path / "out")


@pytest.mark.parametrize("based_path", ["qwen2"], indirect=True)
def test_every_field_changes_what_is_settled_from_a_base_or_is_refused(based_path, tmp_path):
    keys = [key for key in ALTERNATIVES if key.startswith(("model.", "train.", "data.tokens."))]
    settled = {}
    for key in keys:
        change = f"{key}={ALTERNATIVES_BASED.get(key, ALTERNATIVES[key])}"
        settled[key] = settle(based_path, tmp_path / "out", change)
    before = settle(based_path, tmp_path / "out")
    refused = {key for key, value in settled.items() if "refused" in value}
    assert refused == {*SETTLED_BY_BASE, "train.embedding_learning_rate", "train.tensor"}
    assert all("leave" in settled[key]["refused"] for key in refused - {"train.tensor"})
    assert not [key for key in keys if settled[key] == before]
    muon = [
        settle(based_path, tmp_path / "out", "train.optimizer=muon", f"train.embedding_learning_rate={rate}")
        for rate in (0.1, 0.2)
    ]
    assert muon[0] != muon[1]


def test_every_field_is_read_by_the_run(recipe_path, tuned_path, tmp_path, monkeypatch):
    """The other half: a field could change the plan's hash and then be forgotten."""
    seen: set[tuple[str, str]] = set()
    plain = Config.__getattribute__

    def watch(self: Config, name: str) -> Any:
        if name in type(self).model_fields:
            seen.add((type(self).__name__, name))
        return plain(self, name)

    monkeypatch.setattr(Config, "__getattribute__", watch)
    out = Layout(tmp_path / "out")
    for path in (recipe_path, tuned_path):
        with walking(load_recipe(path), layout=out, events=Events(), resume=False) as walk:
            plan, cost = plan_run(load_recipe(path), layout=out, events=Events())
            evaluate_run(walk, plan, train_run(walk, plan, cost, resume=False))
    unread = [key for key, model, name in settled_leaves() if (model.__name__, name) not in seen]
    assert unread == []


@pytest.mark.parametrize("key", ["train.seed", "model.seed"])
def test_a_seed_changes_the_outcome(recipe_path, tmp_path, key):
    weights = []
    for number, changes in enumerate(([], [f"{key}=1"])):
        layout = Layout(tmp_path / f"out{number}")
        loaded = load_recipe(recipe_path, changes)
        with walking(loaded, layout=layout, events=Events(), resume=False) as walk:
            plan, cost = plan_run(loaded, layout=layout, events=Events())
            weights.append((train_run(walk, plan, cost, resume=False) / "model.safetensors").read_bytes())
    assert weights[0] != weights[1]
