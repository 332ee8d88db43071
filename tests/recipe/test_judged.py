"""What is tuned on what people like is judged by whether it tells apart held-out answers, before and after."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from rhapsode.core.errors import PlanRefused, RhapsodeError
from rhapsode.core.events import Event, Events
from rhapsode.evaluate.bits_per_byte import measure_bits
from rhapsode.evaluate.likelihoods import likelihoods
from rhapsode.evaluate.task_evaluation import from_json
from rhapsode.recipe.findings import evaluate_run
from rhapsode.recipe.layout import Layout
from rhapsode.recipe.load import load_recipe
from rhapsode.recipe.plan import make_plan
from rhapsode.recipe.recipe import dump_recipe
from rhapsode.recipe.run import plan_run, train_run, walking
from rhapsode.weights.directory import load_model
from rhapsode.weights.names import checkpoints


def test_pairs_are_told_apart_after_and_by_chance_before(preferred_path: Path, tmp_path: Path) -> None:
    loaded, layout, heard = load_recipe(preferred_path), Layout(tmp_path / "out"), list[Event]()
    events = Events(heard.append)
    with walking(loaded, layout=layout, events=events, resume=False) as walk:
        plan, cost = plan_run(loaded, layout=layout, events=events)
        model = train_run(walk, plan, cost, resume=False)
        found = evaluate_run(walk, plan, model).task
    assert found is not None
    assert found.before is not None
    reward, whole, _ = found.changes
    assert (found.before.scores[0].value, found.after.scores[0].value) == (0.5, 1.0)
    assert reward.verdict.startswith("better by 50.0 points")
    assert found.before.scores[1].value == 0  # the chosen answers are longer
    assert (
        whole.wins + whole.losses + whole.ties
        == len(found.items)
        == plan.data.tokens.split("validation").examples[-1] + 1
    )
    kinds = {one.kind: one for one in found.likelihoods}
    gained = {kind: one.after - (one.before or 0) for kind, one in kinds.items()}
    assert gained["chosen"] > gained["rejected"]
    report = json.loads((walk.run_dir / "report.json").read_text())
    assert from_json(report["task"]) == found
    page, card = (path.read_text() for path in (walk.run_dir / "report.html", model / "README.md"))
    for text in (page, card):
        assert found.verdict in text
        assert "held-out pairs" in text
    assert "not wanted" in page
    assert "cut at" not in page
    rows = [json.loads(line) for line in (walk.run_dir / "answers" / "after.jsonl").read_text().splitlines()]
    assert [row["wanted"] for row in rows] == [True, False] * len(found.items)
    assert all(row["log_prob"] < 0 for row in rows)


def test_likelihoods_of_answers_that_share_their_prompt_are_those_of_each_alone(
    preferred_path: Path, tmp_path: Path
) -> None:
    """Beside the measure of bits per byte, which reads every sequence by itself."""
    plan = make_plan(load_recipe(preferred_path), layout=Layout(tmp_path / "out"), events=Events())
    assert plan.base_directory is not None
    split, model = plan.data.tokens.split("validation"), load_model(plan.base_directory)
    assert (plan.data.held_out.piece_branch == 0).any()
    wanted = list(range(split.num_documents))[2:]
    pad, context = plan.data.tokenizer.pad, plan.train.context
    found = likelihoods(model, split, wanted, context=context, pad=pad, events=Events(), stage="")
    alone = measure_bits(
        model, split, documents=wanted, context=context, stride=context, pad=pad, begin=None, batch_tokens=1,
        events=Events(),
    )  # fmt: skip
    np.testing.assert_allclose(found.log_probs, -alone.bits * np.log(2), rtol=1e-4)
    assert found.tokens.tolist() == [int(np.count_nonzero(split.learned(index))) for index in wanted]


def test_a_recipe_that_judges_likelihoods_reads_back_the_same(preferred_path: Path) -> None:
    recipe = load_recipe(preferred_path).recipe
    written = dump_recipe(recipe)
    assert "max_tokens: 128" not in written.partition("samples:")[0]
    again = preferred_path.with_name("again.yaml")
    again.write_text(written)
    assert load_recipe(again).recipe == recipe


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("evaluate.task.max_tokens=4", "pairs_reward lets the model write nothing"),
        ("evaluate.task.shots=[0]", "pairs_reward lets the model write nothing"),
        ("evaluate.task.scorers=[pairs, chrf]", "judged in runs apart"),
        ("evaluate.task.scorers=[pears]", "did you mean 'pairs'"),
        ("evaluate.baselines=[xz]", "pairs_reward compares with the base"),
    ],
)
def test_what_would_have_no_effect_or_no_sense_is_refused(preferred_path: Path, change: str, said: str) -> None:
    with pytest.raises(RhapsodeError, match=said):
        load_recipe(preferred_path, [change])


def test_a_scorer_of_other_data_refuses_the_plan(tuned_path: Path, tmp_path: Path) -> None:
    loaded = load_recipe(tuned_path, ["evaluate.task={scorers: [pairs]}"])
    with pytest.raises(PlanRefused, match="pairs judges preferences, and the data is made of answers"):
        plan_run(loaded, layout=Layout(tmp_path / "out"), events=Events())


def test_feedback_is_learned_and_told_apart(rated_path: Path, tmp_path: Path) -> None:
    loaded, layout, heard = load_recipe(rated_path), Layout(tmp_path / "out"), list[Event]()
    events = Events(heard.append)
    with walking(loaded, layout=layout, events=events, resume=False) as walk:
        plan, cost = plan_run(loaded, layout=layout, events=events)
        model = train_run(walk, plan, cost, resume=False)
        found = evaluate_run(walk, plan, model).task
    assert found is not None
    assert found.before is not None
    assert found.before.scores[0].value == 0.5
    assert found.after.scores[0].value > 0.9
    assert [one.kind for one in found.likelihoods] == ["good", "bad"]
    assert "held-out answers" in (model / "README.md").read_text()
    steps = [event.fields for event in heard if event.kind == "step"]
    assert steps[-1]["reward_good"] > steps[-1]["reward_bad"]
    assert steps[0]["divergence"] == 0


def test_the_plan_of_feedback_tells_the_balance_and_learns_own_answers_alone(rated_path: Path, tmp_path: Path) -> None:
    layout, heard = Layout(tmp_path / "out"), list[Event]()
    plan, _ = plan_run(load_recipe(rated_path), layout=layout, events=Events(heard.append))
    split = plan.data.tokens.split("train")
    good, bad = split.roles.count("good"), split.roles.count("bad")
    told = next(event.fields["of"] for event in heard if event.kind == "examples")
    assert told == f"feedback: {good} good and {bad} bad answers"
    page = (layout.plans / "rated" / "plan.html").read_text()
    assert "Behind each answer stands one to something else" in page
    weights = next(decision for decision in plan.decisions if decision.name == "weights of good and bad")
    assert weights.because.startswith(f"{good} good and {bad} bad answers")
    chosen = plan.train.objective
    assert chosen["good_weight"] * good / (chosen["bad_weight"] * bad) == pytest.approx(4 / 3)
    own = [i for i in range(split.num_documents) if split.role(i) != "mismatched"]
    assert len(own) * 2 == split.num_documents
    assert plan.data.training.num_targets == sum(int(np.count_nonzero(split.learned(i))) for i in own)
    for sample in plan.samples:
        learned = ["".join(token.text for token in s if token.is_trained) for s in sample.sequences]
        assert any(learned)
        assert not all(learned)


def test_a_weight_that_is_given_stays(rated_path: Path, tmp_path: Path) -> None:
    change = "train.objective={name: kto, good_weight: 1.5}"
    plan = make_plan(load_recipe(rated_path, [change]), layout=Layout(tmp_path / "out"), events=Events())
    assert plan.train.objective["good_weight"] == 1.5
    assert plan.train.objective["bad_weight"] > 1


def test_every_answer_borrows_one_to_something_else_and_always_the_same(rated_path: Path, tmp_path: Path) -> None:
    layouts = [Layout(tmp_path / name) for name in ("one", "two")]
    splits = [
        make_plan(load_recipe(rated_path), layout=layout, events=Events()).data.tokens.split("train")
        for layout in layouts
    ]
    for first in range(0, splits[0].num_documents, 2):
        own, other = splits[0].document(first), splits[0].document(first + 1)
        assert splits[0].document_id(first) == splits[0].document_id(first + 1)
        learned = splits[0].learned(first)
        assert learned is not None
        start = int(learned.argmax())
        assert own[:start].tolist() == other[:start].tolist()
        assert other.tolist() == splits[1].document(first + 1).tolist()


def test_a_run_on_feedback_that_is_resumed_ends_in_the_same_bytes(rated_path: Path, tmp_path: Path) -> None:
    loaded = load_recipe(rated_path, ["train.budget=4 steps", "train.save_every=2", "train.micro_batch_rows=1"])
    ends = []
    for name, is_cut in (("whole", False), ("part", True)):
        layout = Layout(tmp_path / name)
        for is_resumed in (False, True) if is_cut else (False,):
            with walking(loaded, layout=layout, events=Events(), resume=is_resumed) as walk:
                plan, cost = plan_run(loaded, layout=layout, events=Events())
                train_run(walk, plan, cost, resume=is_resumed)
            if is_cut and not is_resumed:
                for path in (*checkpoints(walk.run_dir)[1:], walk.run_dir / "model"):
                    shutil.rmtree(path)
        last = checkpoints(walk.run_dir)[-1]
        files = ("adapter_model.safetensors", "training/optimizer.safetensors")
        ends.append([(last / file).read_bytes() for file in files])
    assert ends[0] == ends[1]
