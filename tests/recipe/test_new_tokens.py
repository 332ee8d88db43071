"""A base whose vocabulary is extended: the plan says what that saves, and every reader reads what comes of it."""

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from tests.recipe.bases import PADDED
from transformers import AutoModelForCausalLM, AutoTokenizer

from rhapsode.core.errors import PlanRefused, RecipeError
from rhapsode.core.events import Events
from rhapsode.core.manifest import digest, verify
from rhapsode.corpus.tokens import Tokens
from rhapsode.evaluate.bits_per_byte import measure_bits
from rhapsode.recipe.findings import evaluate_run
from rhapsode.recipe.layout import Layout
from rhapsode.recipe.load import load_recipe
from rhapsode.recipe.plan import Plan, make_plan
from rhapsode.recipe.run import plan_run, train_run, walking
from rhapsode.text.tokenizer import Tokenizer
from rhapsode.weights.directory import load_model
from rhapsode.weights.names import checkpoints

NEW = ("data.tokens.new_pieces=60", "data.tokens.new_special=['<|verse|>']")
QWEN = pytest.mark.parametrize("based_path", ["qwen2"], indirect=True)


def planned(path: Path, layout: Layout, *changes: str) -> Plan:
    return make_plan(load_recipe(path, changes), layout=layout, events=Events())


def train(path: Path, layout: Layout, *changes: str, resume: bool = False) -> tuple[Plan, Path]:
    loaded, events = load_recipe(path, changes), Events()
    with walking(loaded, layout=layout, events=events, resume=resume) as walk:
        plan, cost = plan_run(loaded, layout=layout, events=events)
        return plan, train_run(walk, plan, cost, resume=resume)


def test_the_plan_says_what_new_tokens_save(based_path: Path, tmp_path: Path) -> None:
    layout = Layout(tmp_path / "out")
    plan = planned(based_path, layout, *NEW)
    assert plan.base is not None
    assert plan.before is not None
    told = {decision.name: (decision.value, decision.because) for decision in plan.decisions}
    assert told["new pieces"][0] == "60"
    assert told["new special tokens"][0] == "<|verse|>"
    value, because = told["bytes per token, held-out text"]
    without = planned(based_path, layout)
    ids = [p.data.tokens.split("validation").num_tokens for p in (without, plan)]
    assert f"{ids[1]:,} ids instead of {ids[0]:,}" in because
    assert ids[1] < 0.9 * ids[0]
    assert float(value) > float(because.partition(" ")[0])
    assert plan.before.tokens.path == without.data.tokens.path
    first = plan.data.tokenizer.vocab_size - 61
    assert plan.train.spec.vocab_size == max(plan.before.base.spec.vocab_size, first + 61)
    assert plan.hash != without.hash
    assert planned(based_path, layout, *NEW).hash == plan.hash


def test_new_rows_are_the_mean_of_what_they_replace_and_the_others_are_as_they_were(
    based_path: Path, tmp_path: Path
) -> None:
    plan = planned(based_path, Layout(tmp_path / "out"), *NEW)
    assert plan.base is not None
    assert plan.before is not None
    before, after = (load_model(base.directory).embedding.weight for base in (plan.before.base, plan.base))
    new = json.loads((plan.data.tokens.path / "new_tokens.json").read_text())
    assert torch.equal(after[: new["first"]], before[: new["first"]])
    for token, ids in enumerate(new["replaced"], start=new["first"]):
        torch.testing.assert_close(after[token], before[ids or slice(None)].mean(0))
    known = verify(plan.base.directory).facts["vocabulary"]
    assert known["rows_before"] - known["first"] == PADDED  # rows that the publisher has to spare are used first
    assert known["rows"] - known["rows_before"] == 61 - PADDED


def test_transformers_reads_what_was_trained(based_path: Path, tmp_path: Path) -> None:
    plan, model = train(based_path, Layout(tmp_path / "out"), *NEW)
    ours, theirs = Tokenizer.load(model), AutoTokenizer.from_pretrained(model)
    text = "The rhapsode walked from city to city and sang verse after verse."
    assert theirs(text).input_ids == ours.ids(text)
    assert max(ours.ids(text)) >= plan.data.tokenizer.vocab_size - 61
    read = AutoModelForCausalLM.from_pretrained(model)
    assert read.config.vocab_size == plan.train.spec.vocab_size == len(read.get_input_embeddings().weight)


def test_the_base_is_measured_in_its_own_tokens(based_path: Path, tmp_path: Path) -> None:
    """Bits per byte do not depend on how text is cut, so what comes of it is held against the base as it was."""
    rows = []
    for name, changes in (("plain", ()), ("new", NEW)):
        layout = Layout(tmp_path / name)
        loaded, events = load_recipe(based_path, changes), Events()
        with walking(loaded, layout=layout, events=events, resume=False) as walk:
            plan, cost = plan_run(loaded, layout=layout, events=events)
            found = evaluate_run(walk, plan, train_run(walk, plan, cost, resume=False)).evaluation
        rows.append({row.name: row for row in found.rows})
    assert rows[0]["base"].bits_per_byte == rows[1]["base"].bits_per_byte
    assert rows[0]["further"].bytes == rows[1]["further"].bytes


def bits(model: Path, tokens: Tokens, plan: Plan) -> float:
    """Per byte of what is held out."""
    split = tokens.split("validation")
    measured = measure_bits(
        load_model(model),
        split,
        documents=range(split.num_documents),
        context=64,
        stride=32,
        pad=plan.data.tokenizer.pad,
        begin=plan.train.begin,
        batch_tokens=4096,
        events=Events(),
    )
    return float(measured.bits.sum() / measured.bytes.sum())


@QWEN
def test_it_begins_near_where_the_base_is_and_learns(based_path: Path, tmp_path: Path) -> None:
    """The base has learned this text; with new tokens it still knows most of it, and soon more."""
    layout = Layout(tmp_path / "out")
    _, base = train(based_path, layout, "train.budget=60 steps", "task.name=first")
    plan, model = train(based_path, layout, *NEW, f"model.base={base}", "train.budget=30 steps", "task.name=second")
    assert plan.base is not None
    assert plan.before is not None
    now = plan.data.tokens
    before = bits(base, plan.before.tokens, plan)
    first, last = (bits(directory, now, plan) for directory in (plan.base.directory, model))
    split = now.split("validation")
    uniform = math.log2(plan.train.spec.vocab_size) * split.num_tokens / split.num_bytes
    assert before < first < 0.85 * uniform
    assert last < before


@pytest.mark.parametrize("changes", [("train.adapter={rank: 4}",), ()])
def test_a_run_that_is_resumed_ends_in_the_same_bytes(
    based_path: Path, tmp_path: Path, changes: tuple[str, ...]
) -> None:
    made = []
    for name in ("whole", "part"):
        layout = Layout(tmp_path / name)
        _, model = train(based_path, layout, *NEW, *changes)
        if name == "part":
            run_dir = layout.runs / "further"
            shutil.rmtree(model)
            for path in checkpoints(run_dir)[1:]:
                shutil.rmtree(path)
            shutil.rmtree(layout.bases)  # made again, byte by byte
            _, model = train(based_path, layout, *NEW, *changes, resume=True)
        made.append(model)
    assert (made[0] / "model.safetensors").read_bytes() == (made[1] / "model.safetensors").read_bytes()


def test_beside_an_adapter_the_new_rows_are_trained_and_no_others(based_path: Path, tmp_path: Path) -> None:
    layout = Layout(tmp_path / "out")
    plan, model = train(based_path, layout, *NEW, "train.adapter={rank: 4}")
    assert plan.base is not None
    assert plan.train.adapter is not None
    first = plan.data.tokenizer.vocab_size - 61
    assert plan.train.adapter.tokens == tuple(range(first, first + 61))
    adapter = checkpoints(layout.runs / "further")[-1]
    config = json.loads((adapter / "adapter_config.json").read_text())
    assert config["trainable_token_indices"] == {"embed_tokens": list(plan.train.adapter.tokens)}
    assert config["base_model_name_or_path"] == str(plan.base.directory.absolute())
    before, after = (
        load_model(path, dtype=torch.bfloat16).embedding.weight for path in (plan.base.directory, model)
    )  # as they are merged
    moved = (after != before).any(1)
    assert moved[first : first + 60].sum() > 30
    assert not moved[:first].any()


def test_without_a_base_nothing_can_be_extended(recipe_path: Path) -> None:
    for change in NEW:
        with pytest.raises(RecipeError, match=r"there is no model\.base whose vocabulary"):
            load_recipe(recipe_path, [change])


@QWEN
def test_added_tokens_without_rows_are_refused(based_path: Path, tmp_path: Path) -> None:
    """As somebody leaves them who adds tokens in another library and forgets the model."""
    base = tmp_path / "grown"
    shutil.copytree(tmp_path / "bases" / "qwen2", base)
    value = json.loads((base / "tokenizer.json").read_text())
    first = len(value["model"]["vocab"])
    looks = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    value["added_tokens"] += [{"id": first + n, "content": f"word{n}", **looks} for n in range(PADDED + 1)]
    (base / "tokenizer.json").write_text(json.dumps(value))
    manifest = json.loads((base / "manifest.json").read_text())
    manifest["files"].pop("tokenizer.json")
    (base / "manifest.json").write_text(json.dumps(manifest))
    assert digest(base)
    with pytest.raises(PlanRefused, match=rf"\('word{PADDED}'\), and the model"):
        planned(based_path, Layout(tmp_path / "out"), f"model.base={base}")
