"""Models that do not write, from rows to what they are worth: labels, rewards and vectors."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.recipe.test_tuned import train

from rhapsode.cli.models import find_model
from rhapsode.core.errors import PlanRefused, RhapsodeError
from rhapsode.core.events import Event, Events
from rhapsode.core.manifest import verify
from rhapsode.engine.heads import load_head
from rhapsode.engine.load import load_engine
from rhapsode.recipe.compare import Sides, compare_models
from rhapsode.recipe.findings import Findings, evaluate_run
from rhapsode.recipe.layout import Layout
from rhapsode.recipe.load import load_recipe
from rhapsode.recipe.plan import Plan, make_plan
from rhapsode.recipe.run import plan_run, train_run, walking
from rhapsode.weights.adapter import read_adapter
from rhapsode.weights.names import checkpoints

HEAD = """
task: {name: head}
data:
  examples:
    - {path: rows.jsonl, split: train}
    - {path: rows-held.jsonl, split: validation}
  overlap: drop
model: {base: bases/qwen2, context: 64}
train:
  objective: OBJECTIVE
  budget: 40 steps
  batch_tokens: 256
  micro_batch_rows: 2
  save_every: 20
  validate_every: 20
  learning_rate: 0.02
  precision: fp32
  adapter: {rank: 4}
evaluate:
  task: {scorers: [SCORERS], max_tokens: 4, shots: [0], shots_items: 2}
"""
WORDS = ("ship", "wind", "gate", "bread", "night", "crew", "sea", "city")


def labelled(number: int) -> dict[str, str]:
    """The first word decides."""
    return {
        "prompt": f"{WORDS[number % 3]} {WORDS[number * 5 % 8]} {number}",
        "completion": ("red", "green", "blue")[number % 3],
    }


def preferred(number: int) -> dict[str, Any]:
    """The answer of a word twice is better than that of a word once."""
    word = WORDS[number % 8]
    said = [{"role": "user", "content": f"{word} {number}"}]
    answers = ({"role": "assistant", "content": text} for text in (f"{word} {word}", f"{word}"))
    chosen, rejected = ([*said, answer] for answer in answers)
    return {"chosen": chosen, "rejected": rejected}


def paired(number: int) -> dict[str, str]:
    """Each word has another one as its answer: nothing that a model knows before."""
    return {"prompt": f"{WORDS[number % 8]} {number}", "completion": f"to the {WORDS[(3 * number + 1) % 8]}"}


ROWS = {"classify": labelled, "reward": preferred, "embed": paired}
SCORERS = {"classify": "accuracy, macro_f1", "reward": "chosen", "embed": "'ndcg@10', 'recall@1', 'recall@5', mrr"}


@pytest.fixture
def folder(tmp_path: Path, bases: Path) -> Path:
    (tmp_path / "bases").symlink_to(bases)
    return tmp_path


def recipe_of(folder: Path, name: str, *, rows: Any = None) -> Path:
    make = rows or ROWS[name]
    for file, numbers in (("rows", range(48)), ("rows-held", range(100, 124))):
        (folder / f"{file}.jsonl").write_text("".join(json.dumps(make(n)) + "\n" for n in numbers))
    path = folder / "head.yaml"
    path.write_text(HEAD.replace("OBJECTIVE", name).replace("SCORERS", SCORERS[name]))
    return path


def walked(path: Path, layout: Layout, *changes: str) -> tuple[Plan, Path, Findings, list[Event]]:
    loaded, heard = load_recipe(path, changes), list[Event]()
    events = Events(heard.append)
    with walking(loaded, layout=layout, events=events, resume=False) as walk:
        plan, cost = plan_run(loaded, layout=layout, events=events)
        model = train_run(walk, plan, cost, resume=False)
        return plan, model, evaluate_run(walk, plan, model), heard


@pytest.mark.parametrize("adapter", ["{rank: 4}", "null"])
@pytest.mark.parametrize("name", ["classify", "embed"])
def test_it_learns_and_is_judged_beside_its_base(name: str, adapter: str, folder: Path) -> None:
    layout = Layout(folder / "out")
    changes = [f"train.adapter={adapter}", *(["train.learning_rate=0.005"] if adapter == "null" else [])]
    path = recipe_of(folder, name)
    plan, model, found, heard = walked(path, layout, *changes)
    assert found.evaluation is None
    assert found.task is not None
    assert found.task.before is not None
    assert plan.base is not None
    sides = Sides(model, plan.base.directory, is_own=True)
    again = compare_models(load_recipe(path, changes), sides, name="again", layout=layout, events=Events())
    assert (again.evaluation, again.task) == (None, found.task)
    assert found.task.verdict in (again.path / "report.html").read_text()
    losses = [event.fields["loss"] for event in heard if event.kind == "step"]
    assert losses[-1] < 0.5 * losses[0]
    assert found.task.after.scores[0].value > found.task.before.scores[0].value
    assert found.task.after.scores[0].value > (0.8 if name == "classify" else 0.3)
    assert find_model(layout.runs / "head") == model
    verify(model)
    assert load_head(model).engine.head == plan.train.spec.head
    page = (layout.runs / "head" / "report.html").read_text()
    assert found.task.verdict in page
    card = (model / "README.md").read_text()
    assert "rhapsode chat" not in card
    assert "rhapsode serve" in card
    looks = [event.fields for event in heard if event.kind == "validation"]
    assert {look["unit"] for look in looks} == {"bits of loss per row"}
    assert looks[-1]["bits_per_byte"] < looks[0]["bits_per_byte"]
    with pytest.raises(RhapsodeError, match="does not write"):
        load_engine(model)


@pytest.mark.parametrize("adapter", ["{rank: 4}", "null"])
def test_rewards_are_learned_and_pairs_are_told_apart(adapter: str, folder: Path) -> None:
    """Of the base nothing is asked: it has no rewards."""
    layout, path = Layout(folder / "out"), recipe_of(folder, "reward")
    changes = ["model.base=bases/chat", "model.context=96", f"train.adapter={adapter}"]
    changes += ["train.learning_rate=0.005"] if adapter == "null" else []
    plan, model, found, heard = walked(path, layout, *changes)
    assert found.task is not None
    assert (found.task.before, found.evaluation) == (None, None)
    assert found.task.after.scores[0].value > 0.9
    steps = [event.fields for event in heard if event.kind == "step"]
    assert steps[0]["loss"] == pytest.approx(0.6931, abs=1e-3)
    assert steps[-1]["right"] > 0.9
    assert load_head(model).engine.head.labels == ("reward",)
    assert plan.train.spec.num_scores == 1


def test_the_first_step_of_labels_is_a_guess_and_its_plan_names_them(folder: Path) -> None:
    layout, heard = Layout(folder / "out"), list[Event]()
    plan, _ = train(recipe_of(folder, "classify"), layout, "train.budget=1 steps", events=Events(heard.append))
    [step] = [event.fields for event in heard if event.kind == "step"]
    assert step["loss"] == pytest.approx(1.0986, abs=1e-3)
    assert any(d.name == "head" and d.value == "3: blue, green, red" for d in plan.decisions)
    learned = {t.text for s in plan.samples for sequence in s.sequences for t in sequence if t.is_trained}
    assert learned <= {" -> label red", " -> label green", " -> label blue"}
    assert "-&gt; label red" in (layout.plans / "head" / "plan.html").read_text() or learned


@pytest.mark.parametrize("name", ["classify", "embed"])
def test_new_tokens_are_learned_beside_a_head(name: str, folder: Path) -> None:
    """An adapter has their rows in the embedding and the head whole; the base is asked without them."""
    layout, path = Layout(folder / "out"), recipe_of(folder, name)
    plan, model, found, _ = walked(path, layout, "data.tokens.new_pieces=8")
    assert plan.train.adapter is not None
    assert len(plan.train.adapter.tokens) == 8
    assert found.task is not None
    assert found.task.before is not None
    assert found.task.after.scores[0].value > found.task.before.scores[0].value
    checkpoint = checkpoints(layout.runs / "head")[-1]
    learned = read_adapter(checkpoint, spec=plan.train.spec).weights
    assert learned["embedding.rows"].shape[0] == 8
    assert ("head.weight" in learned, "head.rows" in learned) == (name == "classify", False)
    assert load_head(model).engine.head == plan.train.spec.head


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
def test_peft_and_transformers_read_what_was_trained(folder: Path) -> None:
    """The adapter with its head upon the base, and the merged model, give the scores that ours gives."""
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    plan, model = train(recipe_of(folder, "classify"), Layout(folder / "out"))
    assert plan.base is not None
    adapter = checkpoints(folder / "out" / "runs" / "head")[-1]
    kind = transformers.AutoModelForSequenceClassification
    base = kind.from_pretrained(plan.base.directory, num_labels=3, dtype=torch.float32)
    theirs = peft.PeftModel.from_pretrained(base, adapter)
    merged = kind.from_pretrained(model, dtype=torch.float32)
    loaded = load_head(model)
    ids = loaded.tokenizer.ids("ship wind 103")
    with torch.no_grad():
        expected, written = (one(torch.tensor([ids])).logits for one in (theirs, merged))
    ours = loaded.engine.scores([ids])
    assert (ours - written).abs().max() < 1e-3
    assert (ours - expected).abs().max() < 0.1 * expected.abs().max()  # the merged weights are rounded to bfloat16
    assert merged.config.id2label == {0: "blue", 1: "green", 2: "red"}


@pytest.mark.parametrize("name", ["classify", "embed"])
def test_a_run_that_is_resumed_ends_in_the_same_bytes(name: str, folder: Path) -> None:
    path, budget = recipe_of(folder, name), ("train.budget=6 steps", "train.save_every=3", "train.validate_every=3")
    whole, part = Layout(folder / "whole"), Layout(folder / "part")
    _, first = train(path, whole, *budget)
    train(path, part, *budget)
    for done in (*checkpoints(part.runs / "head")[1:], part.runs / "head" / "model"):
        shutil.rmtree(done)
    _, second = train(path, part, *budget, resume=True)
    assert (first / "model.safetensors").read_bytes() == (second / "model.safetensors").read_bytes()
    for file in ("adapter_model.safetensors", "training/optimizer.safetensors"):
        left, right = (checkpoints(layout.runs / "head")[-1] / file for layout in (whole, part))
        assert left.read_bytes() == right.read_bytes()


def test_answers_that_are_no_labels_are_refused(folder: Path) -> None:
    def plan(rows: Any) -> None:
        path = recipe_of(folder, "classify", rows=rows)
        make_plan(load_recipe(path), layout=Layout(folder / "out"), events=Events())

    with pytest.raises(PlanRefused, match="48 training rows have 48 different answers"):
        plan(lambda n: {**labelled(n), "completion": f"answer {n}"})
    with pytest.raises(PlanRefused, match="every training row has the label 'red'"):
        plan(lambda n: {**labelled(n), "completion": "red"})
    with pytest.raises(RhapsodeError, match=r"rows-held.jsonl#row\d+: its label 'grey' stands on no training row"):
        plan(lambda n: {**labelled(n), "completion": "grey"} if n == 110 else labelled(n))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("train.objective=reward", "learns from preferences, and the data is made of answers"),
        ("evaluate.task.scorers=[mrr]", "mrr judges models of train.objective embed, and this is classify"),
        ("model.base=null", "a head stands upon trained weights"),
        ("task.prompts=[Sing]", "goes on with nothing"),
        ("evaluate.gate.below_best_baseline=5%", "has no bits per byte"),
        ("evaluate.gate.general=0.05", "has no bits on general text"),
        ("evaluate.task.scorers=[tool_calls]", "judges tool calls, of which train.objective classify makes none"),
    ],
)
def test_what_does_not_go_together_is_refused(change: str, said: str, folder: Path) -> None:
    more = ["evaluate.task=null"] if change.endswith("reward") else []
    more += ["train.adapter=null"] if "base" in change else []
    path = recipe_of(folder, "classify")

    def plan() -> Plan:
        return make_plan(load_recipe(path, [change, *more]), layout=Layout(folder / "out"), events=Events())

    with pytest.raises(RhapsodeError, match=said):
        plan()
