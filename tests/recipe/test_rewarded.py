"""A recipe whose model learns from its own answers: planned, refused, learned, crashed and resumed."""

import json
from pathlib import Path
from typing import Any

import pytest

from rhapsode.core.errors import PlanRefused, RecipeError, RhapsodeError
from rhapsode.core.events import Event, Events
from rhapsode.recipe.findings import evaluate_run
from rhapsode.recipe.layout import Layout
from rhapsode.recipe.load import load_recipe
from rhapsode.recipe.plan import Plan, make_plan
from rhapsode.recipe.run import plan_run, train_run, walking
from rhapsode.train.ranks.ranks import ALONE
from rhapsode.train.settle import Here
from rhapsode.weights.checkpoint import read_state
from rhapsode.weights.names import checkpoints

ADAPTER = "  adapter: {rank: 4}\n"
RECIPE = """
task: {name: rewarded}
data:
  examples:
    - {path: asked.jsonl, split: train}
    - {path: held.jsonl, split: validation}
  overlap: drop
model: {base: bases/wide, context: 64}
train:
  objective: {name: grpo, reward: exact, prompts: 4, answers: 8, max_tokens: 1}
  budget: 6 steps
  save_every: 2
  validate_every: 3
  samples: 0
  learning_rate: 0.01
  precision: fp32
  adapter: {rank: 4}
evaluate:
  task: {scorers: [exact], max_tokens: 1, shots: [0], shots_items: 2, items: 4, general: {documents: 0}}
  samples: {count: 1, max_tokens: 4}
  baselines: [base]
"""


@pytest.fixture
def rewarded_path(tmp_path: Path, bases: Path) -> Path:
    """Whatever is asked, one token is right."""
    for name, numbers in {"asked": range(12), "held": range(100, 104)}.items():
        rows = [{"prompt": f"Which letter has ship {n}?", "completion": "a"} for n in numbers]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "bases").symlink_to(bases)
    path = tmp_path / "rewarded.yaml"
    path.write_text(RECIPE)
    return path


class Heard(list[Event]):
    def __call__(self, event: Event) -> None:
        self.append(event)

    def of(self, kind: str, field: str) -> list[Any]:
        return [event.fields[field] for event in self if event.kind == kind]


def train(path: Path, out: Path, *changes: str, resume: bool = False, events: Events | None = None) -> Plan:
    loaded, layout, events = load_recipe(path, changes), Layout(out), events or Events()
    with walking(loaded, layout=layout, events=events, resume=resume) as walk:
        plan, cost = plan_run(loaded, layout=layout, events=events)
        train_run(walk, plan, cost, resume=resume)
    return plan


def planned(path: Path, out: Path, *changes: str) -> Plan:
    return make_plan(load_recipe(path, changes), layout=Layout(out), events=Events())


def test_a_rewarded_token_is_learned(rewarded_path: Path, tmp_path: Path) -> None:
    """Of all weights, for beside the frozen head of a tiny model none can be sure of a token."""
    rewarded_path.write_text(rewarded_path.read_text().replace(ADAPTER, ""))
    heard = Heard()
    changes = ("train.budget=30 steps", "train.decay=0", "train.validate_every=30")
    train(rewarded_path, tmp_path / "out", *changes, events=Events(heard))
    rewards = heard.of("step", "reward")
    assert sum(rewards[:5]) / 5 < 0.1
    assert sum(rewards[-5:]) / 5 > 0.9
    assert heard.of("rewarded", "reward") == [0.0, 1.0]
    assert heard.of("rewarded", "prompts") == [4, 4]


def test_a_run_that_is_cut_off_ends_with_the_same_bytes(rewarded_path: Path, tmp_path: Path) -> None:
    """Full answers, so that what is drawn matters; the crash comes after a checkpoint and some steps more."""
    longer = "train.objective={name: grpo, reward: [chrf], prompts: 3, answers: 4, max_tokens: 8}"
    train(rewarded_path, tmp_path / "whole", longer)

    def crash(event: Event) -> None:
        if event.kind == "step" and event.fields["step"] == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(rewarded_path, tmp_path / "cut", longer, events=Events(crash))
    before = checkpoints(tmp_path / "cut" / "runs" / "rewarded")
    assert read_state(before[-1]).step in (2, 4)  # the second is written beside the training
    train(rewarded_path, tmp_path / "cut", longer, resume=True)
    weights = [
        checkpoints(tmp_path / name / "runs" / "rewarded")[-1] / "adapter_model.safetensors"
        for name in ("whole", "cut")
    ]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_a_step_that_says_nothing_moves_nothing_and_is_no_trouble(rewarded_path: Path, tmp_path: Path) -> None:
    """Nobody can say so long a word in one token: every reward is 0."""
    rows = [{"prompt": f"Which letter has ship {n}?", "completion": "unsayable words"} for n in range(12)]
    (tmp_path / "asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    heard = Heard()
    with pytest.raises(RhapsodeError, match="nothing"):
        train(rewarded_path, tmp_path / "out", events=Events(heard))
    assert heard.of("step", "moved") == [False] * 6
    assert heard.of("skipped", "step") == []
    assert set(heard.of("idle", "reason")) == {
        "there is nothing to learn from: all answers of every group are worth the same"
    }
    state = read_state(checkpoints(tmp_path / "out" / "runs" / "rewarded")[-1])
    assert (state.step, state.skipped, state.skips) == (6, 6, 0)


def test_the_plan_says_what_is_sampled_and_judged(rewarded_path: Path, tmp_path: Path) -> None:
    plan = planned(rewarded_path, tmp_path / "out", "train.budget=2 epochs")
    assert plan.train.steps == 6
    said = {decision.name: (decision.value, decision.because) for decision in plan.decisions}
    assert said["reward"][0] == "1 x exact"
    assert said["answers"][0] == "8 to a prompt, at most 1 tokens each"
    assert said["batch"][0] == "4 of 12 prompts, 32 answers"
    assert "at most 32 tokens a step" in said["batch"][1]


def test_a_budget_in_minutes_is_measured_with_real_steps(rewarded_path: Path, tmp_path: Path) -> None:
    plan = planned(rewarded_path, tmp_path / "out", "train.budget=20s")
    assert plan.train.steps > 1


@pytest.mark.parametrize(
    "change",
    ["reward: chrf", "reward: [{scorer: exact, weight: 2}]", "prompts: 3", "answers: 4", "max_tokens: 2",
     "temperature: 0.5", "divergence_cost: 0.1", "spread: none", "per: answer"],
)  # fmt: skip
def test_every_number_of_the_objective_is_settled(rewarded_path: Path, tmp_path: Path, change: str) -> None:
    key, _, value = change.partition(": ")
    before = planned(rewarded_path, tmp_path / "out")
    assert planned(rewarded_path, tmp_path / "out", f"train.objective.{key}={value}").hash != before.hash


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("train.objective.max_tokens=60", r"the longest prompt has \d+ tokens, and with an answer of 60 it needs"),
        ("train.objective.prompts=13", "a step of 13 prompts is more than the 12 of the training data"),
        ("train.objective.reward=number", r"12 rows cannot be judged \(asked.jsonl#row1, "),
    ],
)
def test_what_could_not_work_refuses_the_plan(rewarded_path: Path, tmp_path: Path, change: str, said: str) -> None:
    with pytest.raises(PlanRefused, match=said):
        planned(rewarded_path, tmp_path / "out", change)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("train.objective.reward=exakt", "there is no scorer called 'exakt'; did you mean 'exact'"),
        ("train.objective.reward=recall:a", "recall of one label judges the rows of that label alone"),
        ("train.objective.reward=chosen", "chosen judges models of train.objective reward, and this one writes"),
        ("train.objective.reward=[exact, exact]", "reward names a scorer twice"),
        ("train.objective.reward=[]", "reward"),
        ("train.objective={name: grpo}", "reward"),
        ("train.objective.answers=1", "answers"),
        ("train.objective.temperature=0", "temperature"),
        ("train.batch_tokens=128", "a step is train.objective.prompts prompts"),
    ],
)
def test_a_mistake_is_named_before_anything_runs(rewarded_path: Path, change: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        load_recipe(rewarded_path, [change])


def test_several_ranks_are_refused(rewarded_path: Path, tmp_path: Path) -> None:
    with pytest.raises(PlanRefused, match="samples its answers in one process, and here 2 train together"):
        make_plan(load_recipe(rewarded_path), layout=Layout(tmp_path), events=Events(), ranks=ALONE, here=Here(ranks=2))


def test_the_report_and_the_page_tell_of_rewards(rewarded_path: Path, tmp_path: Path) -> None:
    longer = "train.objective={name: grpo, reward: [chrf], prompts: 3, answers: 4, max_tokens: 8}"
    loaded, layout, events = load_recipe(rewarded_path, [longer]), Layout(tmp_path / "out"), Events()
    with walking(loaded, layout=layout, events=events, resume=False) as walk:
        plan, cost = plan_run(loaded, layout=layout, events=events)
        evaluate_run(walk, plan, train_run(walk, plan, cost, resume=False))
    page = (walk.run_dir / "report.html").read_text()
    assert "Reward" in page
    assert "answers that are right" in page
    assert "learns from its own answers" in (layout.plans / "rewarded" / "plan.html").read_text()


def test_all_weights_may_be_trained_and_leaving_the_base_may_cost(rewarded_path: Path, tmp_path: Path) -> None:
    text = rewarded_path.read_text().replace(ADAPTER, "").replace("0.01", "0.001")
    rewarded_path.write_text(text)
    heard = Heard()
    train(rewarded_path, tmp_path / "out", "train.objective.divergence_cost=0.1", events=Events(heard))
    assert heard.of("step", "moved") == [True] * 6
    assert all(value >= 0 for value in heard.of("step", "divergence"))
