"""A model that learns from another one: what the plan refuses and tells, what is learned, and what it passes on."""

import shutil
from pathlib import Path

import pytest
import torch
from tests.conftest import make_spec
from tests.recipe.bases import make_base
from tests.recipe.test_tuned import train

from rhapsode.core.errors import PlanRefused, RecipeError, VerificationMismatch
from rhapsode.core.events import Events, read_events
from rhapsode.core.manifest import digest, verify
from rhapsode.corpus.packing import batch
from rhapsode.kernels.cross_entropy import IGNORE
from rhapsode.kernels.divergence import divergence_plain
from rhapsode.model.decoder import Decoder
from rhapsode.recipe.findings import evaluate_run
from rhapsode.recipe.layout import Layout
from rhapsode.recipe.load import load_recipe
from rhapsode.recipe.plan import Plan, make_plan
from rhapsode.recipe.recipe import dump_recipe
from rhapsode.recipe.run import plan_run, train_run, walking
from rhapsode.recipe.teacher import papers_of
from rhapsode.train.config import TrainConfig
from rhapsode.train.forecast import memory_floor, operations_per_token
from rhapsode.train.objective import Batch, hidden_states, to_batch
from rhapsode.train.settle import settle
from rhapsode.train.trainer import Trainer, first_weights
from rhapsode.weights.directory import load_model
from rhapsode.weights.names import checkpoints

FROM_TEXT = ("data.tokens={}", "model={size: 120k, context: 64}")
NUMBERS = {"beta": "0.5", "temperature": "2.0", "next_token": "0.5"}


@pytest.fixture
def taught_path(tuned_path: Path) -> Path:
    """A recipe that tunes an adapter on what another base, with the same tokenizer, says of the same answers."""
    make_base(tuned_path.parent / "teacher", "qwen2", seed=5, context=1024, facts={"licence": "Apache-2.0"})
    text = tuned_path.read_text().replace("train:\n", "train:\n  objective: {name: distil, teacher: teacher}\n")
    tuned_path.write_text(text.replace("name: tuned", "name: taught"))
    return tuned_path


def plan_of(path: Path, out: Path, *changes: str) -> Plan:
    return make_plan(load_recipe(path, changes), layout=Layout(out), events=Events())


@torch.no_grad()
def distance(student: Decoder, teacher: Decoder, plan: Plan) -> float:
    """KL(teacher|student) of a held-out token, by every score."""
    held = plan.data.held_out
    rows = batch(
        plan.data.tokens.split("validation"), held, range(held.num_rows), pad=plan.data.tokenizer.pad,
        begin=plan.train.begin,
    )  # fmt: skip
    read = to_batch(rows, device=torch.device("cpu"))
    scores = [model.logits(hidden_states(model, read))[read.targets != IGNORE] for model in (student, teacher)]
    return float(divergence_plain(*scores, beta=0.0).mean())


def test_a_student_from_scratch_comes_nearer_to_its_teacher_and_says_whose_it_is(
    recipe_path: Path, tmp_path: Path
) -> None:
    layout = Layout(tmp_path / "out")
    _, teacher = train(recipe_path, layout, "train.budget=30 steps", "train.save_every=30", "task.name=teacher")
    changes = [*FROM_TEXT, f"train.objective={{name: distil, teacher: {teacher}}}", "train.budget=24 steps"]
    changes += ["train.save_every=24", "train.validate_every=24"]
    plan, model = train(recipe_path, layout, *changes)
    first, last, its = first_weights(plan.train, base=None), load_model(model), load_model(teacher)
    assert last.spec.width < its.spec.width
    assert distance(last, its, plan) < 0.7 * distance(first, its, plan)
    card = (model / "README.md").read_text()
    assert "Its teacher was teacher, a qwen3 model of" in card
    facts = verify(model).facts
    assert (facts["objective"], facts["teacher"], facts["bos"]) == ("distil", "teacher", "documents")


def test_its_tokens_are_those_of_its_teacher(recipe_path: Path, bases: Path, tmp_path: Path) -> None:
    """Pieces of text begin as the teacher has always read them."""
    changes = [*FROM_TEXT, f"train.objective={{name: distil, teacher: {bases / 'gemma3_text'}}}"]
    plan = plan_of(recipe_path, tmp_path / "out", *changes)
    assert plan.data.tokenizer.names["unk_token"] == "<unk>"
    assert plan.train.begin == plan.data.tokenizer.bos
    assert plan.train.teacher is not None
    assert plan.train.teacher.sha256 == digest(bases / "gemma3_text")
    assert plan.licence == "gemma, unknown"


def test_an_adapter_learns_answers_from_a_teacher_from_plan_to_report(taught_path: Path, tmp_path: Path) -> None:
    loaded, layout, events = load_recipe(taught_path), Layout(tmp_path / "out"), Events()
    with walking(loaded, layout=layout, events=events, resume=False) as walk:
        plan, cost = plan_run(loaded, layout=layout, events=events)
        model = train_run(walk, plan, cost, resume=False)
        evaluate_run(walk, plan, model)
    told = {decision.name: decision for decision in plan.decisions}
    assert told["objective"].value == "distil (beta 0, temperature 1, next_token 0)"
    assert told["teacher"].value == "somebody/tiny"
    assert told["teacher's licence"].value == "Apache-2.0"
    card = (model / "README.md").read_text()
    assert "The teacher's licence, Apache-2.0, may bind this model too: `GEMMA_TERMS.html`, `NOTICE`" in card
    assert "license_name: Apache-2.0, gemma" in card
    assert (model / "NOTICE").is_file()
    assert "teacher" in verify(checkpoints(walk.run_dir)[-1]).inputs
    assert digest(taught_path.parent / "teacher") in (walk.run_dir / "report.html").read_text()
    steps = [event.fields for event in read_events(walk.run_dir / "events.jsonl") if event.kind == "step"]
    assert all(0 < step["divergence"] == pytest.approx(step["loss"], rel=1e-3) for step in steps)
    again = tmp_path / "elsewhere.yaml"
    again.write_text(dump_recipe(plan.recipe_in_full))
    assert plan_of(again, tmp_path / "out").hash == plan.hash


@pytest.mark.parametrize("own", ["null", "{share: 0.5, max_tokens: 4}"])
def test_a_run_that_is_resumed_ends_in_the_same_bytes(own: str, taught_path: Path, tmp_path: Path) -> None:
    whole, part, change = Layout(tmp_path / "whole"), Layout(tmp_path / "part"), f"train.objective.own={own}"
    _, first = train(taught_path, whole, change)
    train(taught_path, part, change)
    run_dir = part.runs / "taught"
    for path in (*checkpoints(run_dir)[1:], run_dir / "model"):
        shutil.rmtree(path)
    _, second = train(taught_path, part, change, resume=True)
    for name in ("adapter_model.safetensors", "training/optimizer.safetensors"):
        files = [checkpoints(layout.runs / "taught")[-1] / name for layout in (whole, part)]
        assert files[0].read_bytes() == files[1].read_bytes()
    assert (first / "model.safetensors").read_bytes() == (second / "model.safetensors").read_bytes()


def prompts_in(rows: Batch) -> set[tuple[int, ...]]:
    """The ids that stand before the first learned token of each sequence, and the input that says it."""
    found = set()
    for row in range(len(rows.ids)):
        for number in rows.documents[row].unique().tolist():
            own = rows.documents[row] == number
            is_learned = rows.targets[row][own] != IGNORE
            if number:
                found.add(tuple(rows.ids[row][own][: int(is_learned.int().argmax()) + 1].tolist()))
    return found


def test_own_answers_stand_behind_the_prompts_of_the_same_rows(taught_path: Path, tmp_path: Path) -> None:
    given, own = (
        plan_of(taught_path, tmp_path / "out", f"train.objective.own={own}")
        for own in ("0", "{share: 0.5, max_tokens: 4}")
    )
    loads = [
        Trainer(
            plan.train, plan.data, device=plan.device, base=plan.base_directory, teacher=plan.teacher_directory
        ).load
        for plan in (given, own)
    ]
    for place in (0, 1, 2, 3):
        assert loads[0].rows_of(place) == loads[1].rows_of(place)
        wanted, found = (load(place) for load in loads)
        assert prompts_in(found) == prompts_in(wanted)
        assert loads[1].measures["own"] == place % 2
        is_same = found.ids.shape == wanted.ids.shape and torch.equal(found.targets, wanted.targets)
        assert is_same == (place % 2 == 0)
        again = loads[1](place)
        assert torch.equal(again.targets, found.targets)


def test_a_student_comes_nearer_to_its_teacher_by_its_own_answers(taught_path: Path, tmp_path: Path) -> None:
    changes = ["train.objective.own={share: 1, max_tokens: 6}", "train.objective.beta=0.5", "train.budget=30 steps"]
    plan, model = train(taught_path, Layout(tmp_path / "out"), *changes, "train.save_every=30")
    assert plan.base is not None
    assert plan.teacher is not None
    before, after, its = (load_model(path) for path in (plan.base.directory, model, plan.teacher.directory))
    assert distance(after, its, plan) < 0.9 * distance(before, its, plan)


def test_own_answers_need_prompts_and_room(taught_path: Path, recipe_path: Path, bases: Path, tmp_path: Path) -> None:
    with pytest.raises(PlanRefused, match=r"raise model.context|it needs \d+; model.context is 160"):
        plan_of(taught_path, tmp_path / "out", "train.objective.own=0.5")
    objective = f"train.objective={{name: distil, teacher: {bases / 'qwen2'}, own: 0.5}}"
    with pytest.raises(PlanRefused, match="text asks for no answers"):
        plan_of(recipe_path, tmp_path / "out", *FROM_TEXT, objective)


def test_a_teacher_is_named_and_here_and_reads_as_much(taught_path: Path) -> None:
    def message(*changes: str) -> str:
        with pytest.raises(RecipeError) as error:
            load_recipe(taught_path, changes)
        return error.value.message

    assert "teacher" in message("train.objective=distil")
    assert "leave one out" in message("train.objective={name: distil, teacher: teacher, own: 1, next_token: 0.5}")
    assert message("train.objective.teacher=gone") == "--set: train.objective.teacher: gone is not here"
    make_base(taught_path.parent / "short", "qwen2", context=64)
    assert "160 tokens are more than the 64 that somebody/tiny reads" in message("train.objective.teacher=short")


def test_another_vocabulary_is_refused(taught_path: Path, bases: Path, tmp_path: Path) -> None:
    make_base(taught_path.parent / "other", "gemma3_text", context=1024)
    with pytest.raises(PlanRefused, match=r"has another vocabulary: \d+ tokens are not the same in both, such as 0 "):
        plan_of(taught_path, tmp_path / "out", "train.objective.teacher=other")


def test_a_vocabulary_to_learn_has_no_effect_beside_a_teacher(recipe_path: Path, bases: Path) -> None:
    with pytest.raises(RecipeError, match=r"data.tokens.vocab_size: the vocabulary is that of train.objective.teacher"):
        load_recipe(recipe_path, [f"train.objective={{name: distil, teacher: {bases / 'qwen2'}}}"])


def test_pairs_have_no_teacher() -> None:
    config = TrainConfig.model_validate({"objective": {"name": "distil", "teacher": "somebody"}})
    with pytest.raises(PlanRefused, match="distil learns from answers or text, and the data is made of preferences"):
        settle(
            config, make_spec(), init_seed=None, base="b", stops=(), begin=None, context=64, num_rows=100,
            num_targets=4000, examples="preferences",
        )  # fmt: skip


def test_every_number_and_the_teacher_change_what_is_settled(taught_path: Path, tmp_path: Path) -> None:
    make_base(taught_path.parent / "third", "qwen2", seed=6, context=1024)
    changes = [(), ("train.objective.teacher=third",)]
    changes += [(f"train.objective.{name}={value}",) for name, value in NUMBERS.items()]
    changes += [(f"train.objective.own={{share: 0.5, max_tokens: {most}}}",) for most in (4, 5)]
    changes += [("train.objective.own={share: 0.4, max_tokens: 4}",)]
    assert len({plan_of(taught_path, tmp_path / "out", *change).hash for change in changes}) == len(changes)


def test_another_teacher_than_was_planned_is_not_learned_from(taught_path: Path, bases: Path, tmp_path: Path) -> None:
    loaded, layout, events = load_recipe(taught_path), Layout(tmp_path / "out"), Events()
    with walking(loaded, layout=layout, events=events, resume=False) as walk:
        plan, cost = plan_run(loaded, layout=layout, events=events)
        shutil.rmtree(taught_path.parent / "teacher")
        shutil.copytree(bases / "wide", taught_path.parent / "teacher")
        with pytest.raises(VerificationMismatch, match="is not the model that was planned"):
            train_run(walk, plan, cost, resume=False)


def test_memory_and_work_count_the_teacher(taught_path: Path, tmp_path: Path) -> None:
    taught = plan_of(taught_path, tmp_path / "out")
    alone = plan_of(taught_path, tmp_path / "out", "train.objective={name: sft, learn_prompts: 0}")
    assert taught.train.teacher is not None
    weights = 4 * taught.train.teacher.spec.parameters
    assert memory_floor(taught.train) - memory_floor(alone.train) > weights
    work = [operations_per_token(plan.train, plan.data.training) for plan in (taught, alone)]
    assert work[0] == pytest.approx(1.5 * work[1])  # of an adapter two products of three, and one more


def test_papers_of_both_are_passed_on(taught_path: Path) -> None:
    loaded = load_recipe(taught_path)
    assert loaded.teacher is not None
    assert list(papers_of(loaded.base, loaded.teacher)) == ["GEMMA_TERMS.html", "NOTICE"]
    (loaded.teacher.directory / "NOTICE").write_text("Another notice\n")
    found = papers_of(loaded.base, loaded.teacher)
    assert found["NOTICE.teacher"].read_text() == "Another notice\n"
    assert list(papers_of(None, loaded.teacher)) == ["GEMMA_TERMS.html", "NOTICE"]
