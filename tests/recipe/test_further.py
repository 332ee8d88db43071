"""Training on from a model of another family: what comes out, and that every later verb reads it."""

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from rhapsode.core.errors import VerificationMismatch
from rhapsode.core.events import Event, Events
from rhapsode.core.manifest import digest, verify
from rhapsode.evaluate.evaluation import Evaluation
from rhapsode.kernels.attention import DenseAttend
from rhapsode.recipe.findings import evaluate_run
from rhapsode.recipe.layout import Layout
from rhapsode.recipe.load import load_recipe
from rhapsode.recipe.plan import Plan
from rhapsode.recipe.run import Walk, plan_run, train_run, walking
from rhapsode.text.tokenizer import Tokenizer
from rhapsode.train.trainer import first_weights
from rhapsode.weights.directory import load_model, stop_tokens


class Further(NamedTuple):
    """A run that has ended."""

    recipe: Path
    base: Path
    layout: Layout
    plan: Plan
    model: Path
    evaluation: Evaluation
    events: list[Event]

    def of(self, kind: str, field: str) -> list[Any]:
        return [event.fields[field] for event in self.events if event.kind == kind]


def train(recipe: Path, layout: Layout, events: Events, *, resume: bool = False) -> tuple[Walk, Plan, Path]:
    loaded = load_recipe(recipe)
    with walking(loaded, layout=layout, events=events, resume=resume) as walk:
        plan, cost = plan_run(loaded, layout=layout, events=events)
        return walk, plan, train_run(walk, plan, cost, resume=resume)


@pytest.fixture
def further(based_path: Path, tmp_path: Path) -> Further:
    heard: list[Event] = []
    layout = Layout(tmp_path / "out")
    walk, plan, model = train(based_path, layout, Events(heard.append))
    evaluation, *_ = evaluate_run(walk, plan, model)
    assert plan.base is not None
    return Further(based_path, plan.base.directory, layout, plan, model, evaluation, heard)


def test_it_begins_where_the_base_ended_and_learns(further: Further) -> None:
    first = dict(first_weights(further.plan.train, base=further.base).named_parameters())
    for name, value in load_model(further.base).named_parameters():
        assert torch.equal(first[name], value)
    losses = further.of("step", "loss")
    assert losses[-1] < losses[0] - 0.3
    before, *_, after = further.of("validation", "bits_per_byte")
    assert after < before


def test_the_checkpoint_is_the_bases_in_all_but_its_weights(further: Further) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (further.model / name).read_bytes() == (further.base / name).read_bytes()
    config, before = (json.loads((path / "config.json").read_text()) for path in (further.model, further.base))
    assert {**before, "dtype": "float32", "torch_dtype": "float32"} == config
    assert stop_tokens(further.model) == stop_tokens(further.base)
    assert load_model(further.model).spec == load_model(further.base).spec


def test_the_checkpoint_names_its_base_and_carries_its_licence(further: Further) -> None:
    manifest = verify(further.model)
    facts = {key: manifest.facts[key] for key in ("objective", "base", "licence", "step")}
    assert facts == {"objective": "next_token", "base": "somebody/tiny", "licence": "gemma", "step": 6}
    assert manifest.inputs["base"] == digest(further.base)
    assert "size" not in manifest.recipe["model"]
    for name in ("GEMMA_TERMS.html", "NOTICE"):
        assert (further.model / name).read_bytes() == (further.base / name).read_bytes()
    _, front, body = (further.model / "README.md").read_text().split("---\n", 2)
    card = yaml.safe_load(front)
    assert (card["base_model"], card["license"]) == ("somebody/tiny", "gemma")
    assert "`GEMMA_TERMS.html`, `NOTICE`" in body
    assert "trained from scratch" not in body


def test_transformers_reads_the_checkpoint_and_agrees(further: Further) -> None:
    tokenizer = Tokenizer.load(further.model)
    text = "The ship of number 7 sings\tand 🚢 sails"
    assert AutoTokenizer.from_pretrained(further.model)(text).input_ids == tokenizer.ids(text)
    ids = torch.tensor([tokenizer.ids(text)])
    model = load_model(further.model)
    with torch.no_grad():
        expected = AutoModelForCausalLM.from_pretrained(further.model, dtype=torch.float32)(ids).logits
        attend = DenseAttend(torch.ones_like(ids), dtype=torch.float32)
        logits = model.logits(model(ids, torch.arange(ids.shape[1])[None], attend=attend))
    assert (logits - expected).abs().max() < 1e-3


def test_it_is_measured_in_its_own_tokens_beside_the_baselines(further: Further) -> None:
    rows = {row.name: row.bits_per_byte for row in further.evaluation.rows}
    assert set(rows) == {"further", "base", "xz", "kneser-ney"}
    assert rows["further"] < rows["base"] - 0.1
    assert all(0 < bits < 20 for bits in rows.values())
    assert further.evaluation.context == 64
    tokens = further.plan.data.tokens
    split, tokenizer = tokens.split("train"), Tokenizer.load(further.base)
    assert split.document(0)[0] == tokenizer.bos
    assert split.document(0)[-1] == tokenizer.eos


def test_a_resumed_run_ends_with_the_same_bytes(further: Further, tmp_path: Path) -> None:
    part = Layout(tmp_path / "part")
    shutil.copytree(further.layout.out, part.out)
    shutil.rmtree(part.runs / "further" / "step-000006")
    heard: list[Event] = []
    _, _, model = train(further.recipe, part, Events(heard.append), resume=True)
    assert [event.fields["step"] for event in heard if event.kind == "begin"] == [4]
    assert verify(model).files == verify(further.model).files
    assert digest(model) == digest(further.model)


def test_a_checkpoint_can_be_the_next_base(further: Further, tmp_path: Path) -> None:
    recipe = further.recipe.parent / "again.yaml"
    text = further.recipe.read_text().replace("name: further", "name: again")
    recipe.write_text(text.replace(f"bases/{further.base.name}", str(further.model)))
    _, plan, model = train(recipe, Layout(tmp_path / "again"), Events())
    assert plan.base is not None
    assert (plan.base.licence, verify(model).facts["base"]) == ("gemma", "further")
    assert (model / "GEMMA_TERMS.html").is_file()


@pytest.mark.parametrize("based_path", ["qwen2"], indirect=True)
def test_a_base_whose_bytes_have_changed_is_not_trained(based_path: Path, bases: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(bases / "qwen2", tmp_path / "copy")
    based_path.write_text(based_path.read_text().replace("bases/qwen2", str(copy)))
    data = bytearray((copy / "model.safetensors").read_bytes())
    data[-50] ^= 1
    (copy / "model.safetensors").write_bytes(data)
    with pytest.raises(VerificationMismatch, match="model.safetensors has changed"):
        train(based_path, Layout(tmp_path / "out"), Events())
