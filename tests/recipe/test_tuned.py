"""A base tuned on examples: what is kept, what comes back, and that it helped or did not is said."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from rhapsode.cli.models import find_model
from rhapsode.core.errors import PlanRefused, RhapsodeError
from rhapsode.core.events import Event, Events
from rhapsode.core.manifest import digest, verify
from rhapsode.engine.load import load_engine
from rhapsode.kernels.attention import DenseAttend
from rhapsode.model.decoder import Decoder
from rhapsode.recipe.findings import evaluate_run
from rhapsode.recipe.layout import Layout
from rhapsode.recipe.load import load_recipe
from rhapsode.recipe.plan import Plan, make_plan
from rhapsode.recipe.run import plan_run, train_run, walking
from rhapsode.train.trainer import Trainer
from rhapsode.weights.adapter import load_adapter
from rhapsode.weights.directory import load_model
from rhapsode.weights.frozen import load_frozen
from rhapsode.weights.names import checkpoints


def train(
    path: Path, layout: Layout, *changes: str, resume: bool = False, events: Events | None = None
) -> tuple[Plan, Path]:
    loaded, events = load_recipe(path, changes), events or Events()
    with walking(loaded, layout=layout, events=events, resume=resume) as walk:
        plan, cost = plan_run(loaded, layout=layout, events=events)
        return plan, train_run(walk, plan, cost, resume=resume)


def scores(model: Decoder, ids: list[int]) -> torch.Tensor:
    tokens = torch.tensor([ids])
    with torch.no_grad():
        attend = DenseAttend(torch.ones_like(tokens), dtype=torch.float32)
        return model.logits(model(tokens, torch.arange(len(ids))[None], attend=attend))


def test_what_is_merged_speaks_as_the_adapter_upon_its_base(tuned_path: Path, tmp_path: Path) -> None:
    plan, model = train(tuned_path, Layout(tmp_path / "out"), "train.budget=30 steps")
    run_dir = tmp_path / "out" / "runs" / "tuned"
    adapter = checkpoints(run_dir)[-1]
    assert (adapter / "adapter_config.json").exists()
    assert not (adapter / "model.safetensors").exists()
    assert model == find_model(run_dir) == run_dir / "model"
    assert plan.base is not None
    base = load_model(plan.base.directory)
    ids = plan.data.tokens.split("train").document(0).tolist()
    before = scores(base, ids)
    change = load_adapter(base, adapter, base=digest(plan.base.directory)).change
    assert change > 0
    merged = scores(load_model(model), ids)
    assert (merged - scores(base, ids)).abs().max() < 0.1 * (merged - before).abs().max()
    facts = verify(model).facts
    assert (facts["objective"], facts["chat"], facts["base"]) == ("sft", False, "somebody/tiny")


def test_what_was_learned_beside_few_bits_is_merged_with_them(tuned_path: Path, tmp_path: Path) -> None:
    """The rounding of the base is a part of what was trained."""
    changes = ("train.budget=30 steps", "train.storage=int4")
    plan, model = train(tuned_path, Layout(tmp_path / "out"), *changes)
    assert plan.base is not None
    base, ids = plan.base.directory, plan.data.tokens.split("train").document(0).tolist()
    stored = load_frozen(base, dtype=torch.float32, storage="int4")
    load_adapter(stored, checkpoints(tmp_path / "out" / "runs" / "tuned")[-1], base=plan.base.sha256)
    merged, upon_whole = scores(load_model(model), ids), load_model(base)
    load_adapter(upon_whole, checkpoints(tmp_path / "out" / "runs" / "tuned")[-1], base=plan.base.sha256)
    trained = scores(stored, ids)
    assert (merged - trained).abs().max() < 0.3 * (scores(upon_whole, ids) - trained).abs().max()


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of transformers, at what peft asks it
def test_peft_reads_the_checkpoint_and_agrees(tuned_path: Path, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    from transformers import AutoModelForCausalLM

    plan, _ = train(tuned_path, Layout(tmp_path / "out"), "train.budget=30 steps")
    assert plan.base is not None
    adapter = checkpoints(tmp_path / "out" / "runs" / "tuned")[-1]
    theirs = AutoModelForCausalLM.from_pretrained(plan.base.directory, dtype=torch.float32)
    theirs = peft.PeftModel.from_pretrained(theirs, adapter)
    ids = plan.data.tokens.split("train").document(0).tolist()
    ours = load_model(plan.base.directory)
    load_adapter(ours, adapter, base=plan.base.sha256)
    with torch.no_grad():
        expected = theirs(torch.tensor([ids])).logits
    assert (scores(ours, ids) - expected).abs().max() < 1e-3


@pytest.mark.parametrize("objective", ["sft", "{name: sft, noise: 5}"])
def test_a_run_that_is_resumed_ends_in_the_same_bytes(tuned_path: Path, tmp_path: Path, objective: str) -> None:
    whole, part = Layout(tmp_path / "whole"), Layout(tmp_path / "part")
    changes = ("train.budget=8 steps", f"train.objective={objective}")
    _, first = train(tuned_path, whole, *changes)
    train(tuned_path, part, *changes)
    run_dir = part.runs / "tuned"
    for path in (*checkpoints(run_dir)[1:], run_dir / "model"):
        shutil.rmtree(path)
    _, second = train(tuned_path, part, *changes, resume=True)
    for name in ("adapter_model.safetensors", "training/optimizer.safetensors"):
        files = [checkpoints(layout.runs / "tuned")[-1] / name for layout in (whole, part)]
        assert files[0].read_bytes() == files[1].read_bytes()
    assert (first / "model.safetensors").read_bytes() == (second / "model.safetensors").read_bytes()


def test_what_examples_begin_with_alike_is_computed_once_and_the_plan_says_so(tuned_path: Path, tmp_path: Path) -> None:
    instruction = "Say the colour of the ship and nothing else. " * 8
    for name in ("asked", "held"):
        path = tuned_path.parent / f"{name}.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps({**row, "prompt": instruction + row["prompt"]}) + "\n" for row in rows))
    heard, layout = list[Event](), Layout(tmp_path / "out")
    loaded = load_recipe(tuned_path, ["model.context=512"])
    plan, _ = plan_run(loaded, layout=layout, events=Events(heard.append))
    (told,) = [event.fields for event in heard if event.kind == "shared"]
    assert told["shared"] > told["read"] / 2
    packing, split = plan.data.training, plan.data.tokens.split("train")
    one_by_one = sum(int(split.lengths[d]) - 1 for d in set(packing.piece_document.tolist()))
    assert one_by_one == told["read"] == told["shared"] + packing.num_places
    assert "what sequences begin with alike is computed once" in (layout.plans / "tuned" / "plan.html").read_text()


def test_its_answers_are_judged_before_and_after_and_the_card_says_so(tuned_path: Path, tmp_path: Path) -> None:
    loaded, layout, heard = load_recipe(tuned_path), Layout(tmp_path / "out"), list[Event]()
    events = Events(heard.append)
    with walking(loaded, layout=layout, events=events, resume=False) as walk:
        plan, cost = plan_run(loaded, layout=layout, events=events)
        model = train_run(walk, plan, cost, resume=False)
        found = evaluate_run(walk, plan, model)
    assert found.task is not None
    assert [row.name for row in found.evaluation.rows] == ["tuned", "base"]
    report = json.loads((walk.run_dir / "report.json").read_text())
    assert report["task"]["after"]["scores"][0]["scorer"] == "accuracy"
    assert found.task.verdict in (walk.run_dir / "report.html").read_text()
    assert "## What its answers are worth" in (model / "README.md").read_text()
    verify(model)
    answers = (walk.run_dir / "answers" / "after.jsonl").read_text().splitlines()
    assert len(answers) == 4
    assert {"begins", "done"} <= {event.fields["state"] for event in heard if event.kind == "stage"}


def test_the_plan_shows_what_is_learned(tuned_path: Path, tmp_path: Path) -> None:
    layout, heard = Layout(tmp_path / "out"), list[Event]()
    loaded = load_recipe(tuned_path, ["train.objective={name: sft, learn_prompts: 0}"])
    plan, _ = plan_run(loaded, layout=layout, events=Events(heard.append))
    page = (layout.plans / "tuned" / "plan.html").read_text()
    assert "<mark>" in page
    assert "learn_prompts 0" in next(one.value for one in plan.decisions if one.name == "objective")
    for sample in plan.samples:
        for sequence in sample.sequences:
            learned = "".join(token.text for token in sequence if token.is_trained)
            assert learned in (" red<|endoftext|>", " green<|endoftext|>", " blue<|endoftext|>")
    warning = next(event.fields["message"] for event in heard if event.kind == "warning")
    assert "1 of 31 examples for train do not fit into model.context 160 (asked.jsonl#row31)" in warning


def test_a_share_of_the_prompts_is_learned_too_and_counted(tuned_path: Path, tmp_path: Path) -> None:
    found = []
    for share in (0.0, 0.05, 1.0):
        changes = [f"train.objective={{name: sft, learn_prompts: {share}}}"]
        plan = make_plan(load_recipe(tuned_path, changes), layout=Layout(tmp_path / "out"), events=Events())
        trainer = Trainer(plan.train, plan.data, device=plan.device, base=plan.base_directory)
        seen = sum(trainer.load(place).num_targets for place in range(plan.data.training.num_rows // 2))
        assert seen == pytest.approx(plan.data.training.num_targets, rel=0.05), "what the plan counts is learned"
        found.append(plan.data.training.num_targets)
    assert found[0] < found[1] < found[2]
    default = make_plan(load_recipe(tuned_path), layout=Layout(tmp_path / "out"), events=Events())
    assert default.data.training.num_targets == found[1]


def test_what_does_not_fit_refuses_the_plan_and_is_named(tuned_path: Path, tmp_path: Path) -> None:
    with pytest.raises(PlanRefused, match=r"asked.jsonl#row31\): \d+ tokens of answers would be lost"):
        plan_run(load_recipe(tuned_path, ["data.too_long=refuse"]), layout=Layout(tmp_path / "out"), events=Events())


def test_an_adapter_is_refused_on_another_base(tuned_path: Path, tmp_path: Path) -> None:
    train(tuned_path, Layout(tmp_path / "out"))
    other = load_model(tuned_path.parent / "bases" / "qwen2")
    adapter = checkpoints(tmp_path / "out" / "runs" / "tuned")[-1]
    with pytest.raises(RhapsodeError, match="was trained on the model"):
        load_adapter(other, adapter, base=digest(tuned_path.parent / "bases" / "qwen2"))


def test_fifty_rows_are_learned_by_heart_and_answers_end(tuned_path: Path, tmp_path: Path) -> None:
    """The loss falls below 0.1, and the served model says what it learned and stops."""
    rows = [
        json.dumps({"prompt": f"ship {n} is", "completion": f" {['red', 'green', 'blue'][n % 3]}"}) for n in range(50)
    ]
    (tuned_path.parent / "fifty.jsonl").write_text("\n".join(rows))
    heard: list[Event] = []
    changes = ["data.examples=[{path: fifty.jsonl}]", "train.budget=250 steps", "train.batch_tokens=480"]
    changes += ["train.adapter=null", "train.learning_rate=0.01", "train.save_every=250", "train.validate_every=250"]
    plan, model = train(
        tuned_path, Layout(tmp_path / "out"), *changes, "train.weight_decay=0", events=Events(heard.append)
    )
    losses = [event.fields["loss"] for event in heard if event.kind == "step"]
    assert losses[-1] < 0.1
    assert plan.train.adapter is None
    engine, tokenizer = load_engine(model)
    from rhapsode.engine.completion import complete
    from rhapsode.engine.sampling import Sampling

    split = plan.data.tokens.split("train")
    ids, mask = split.document(0).tolist(), split.learned(0)
    assert mask is not None
    start = int(mask.argmax())
    said = "".join(p.text for p in complete(engine, tokenizer, ids[:start], sampling=Sampling(max_tokens=20)))
    assert said == tokenizer.decode(ids[start:])
