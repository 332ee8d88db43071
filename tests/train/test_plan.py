import dataclasses
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.conftest import make_spec

from rhapsode.core.errors import PlanRefused
from rhapsode.core.units import GiB
from rhapsode.model.families.registry import with_head
from rhapsode.model.spec import Head, ModelSpec
from rhapsode.train.config import TrainConfig
from rhapsode.train.objectives.balance import Balance
from rhapsode.train.plan import Decision, TrainPlan
from rhapsode.train.rates import ADAMW_RATE, EMBEDDING_RATE, GENTLER, MUON_RATE, PREFERENCE_GENTLER
from rhapsode.train.settle import WHOLE_BYTES, Here, settle

SPEC = dataclasses.replace(make_spec(), width=384, context=512)


def settled(
    *,
    spec: ModelSpec = SPEC,
    base: str | None = None,
    num_rows: int = 1000,
    num_targets: int = 500_000,
    here: Here | None = None,
    examples: str | None = None,
    balance: Balance | None = None,
    **fields: Any,
) -> tuple[TrainPlan, dict[str, Decision]]:
    config = TrainConfig.model_validate(fields)
    plan, decisions = settle(
        config,
        spec,
        init_seed=None if base else 5,
        base=base,
        stops=(1,),
        begin=None,
        context=512,
        num_rows=num_rows,
        num_targets=num_targets,
        examples=examples,
        balance=balance,
        here=here or Here(),
    )
    return plan, {decision.name: decision for decision in decisions}


def test_steps_are_as_many_as_asked_for() -> None:
    plan, decisions = settled(budget="300 steps")
    assert plan.steps == 300
    assert decisions["steps"] == Decision("steps", "300", "train.budget")


def test_steps_of_a_budget_in_tokens_and_in_epochs() -> None:
    # 1000 rows hold 500,000 targets, so 16 rows of 512 train 8000 tokens a step
    assert settled(budget="2 epochs", batch_tokens=8192)[0].steps == 125
    assert settled(budget="80k tokens", batch_tokens=8192)[0].steps == 10
    assert settled(budget="1 tokens", batch_tokens=8192)[0].steps == 1
    why = settled(budget="2 epochs", batch_tokens=8192)[1]["steps"].because
    assert why == "2 epochs / 8,000 trained tokens a step"


@pytest.mark.parametrize(
    ("targets", "rows"),
    [
        (500_000, 8),  # 3 sqrt(500k) = 2121, less than 4096 tokens
        (5_000_000, 16),  # 6708 -> 8192
        (50_000_000, 32),  # 21213 -> 16384
        (500_000_000, 128),  # 67082 -> 65536
    ],
)
def test_the_batch_grows_with_the_root_of_the_budget(targets: int, rows: int) -> None:
    plan, decisions = settled(num_rows=targets // 500, num_targets=targets)
    assert plan.batch_rows == rows
    assert decisions["batch"].value == f"{rows} x 512 tokens"
    assert f"3 sqrt({targets:,} tokens)" in decisions["batch"].because


def test_a_batch_that_the_recipe_names_is_taken_in_whole_rows() -> None:
    assert settled(batch_tokens=1)[0].batch_rows == 1
    assert settled(batch_tokens=5000)[0].batch_rows == 10
    assert settled(batch_tokens=5000)[1]["batch"].because == "train.batch_tokens, in whole rows"


@pytest.mark.parametrize(("batch", "steps"), [(8192, 1000), (4096, 2000)])
def test_a_budget_in_minutes_pays_for_steps_and_for_the_looks_between_them(batch: int, steps: int) -> None:
    here = Here(tokens_per_second=10_000)
    # rows of 512 hold 500 targets; a look costs a third of its tokens, once in 50 steps: a tenth of those, or of 65,536
    look = min(65536, int(0.3 * 50 * batch))
    each = (batch + look / 3 / 50) * 500 / 512
    plan, said = settled(budget="10m", batch_tokens=batch, here=here)
    assert plan.steps == round(600 * 10_000 / each)
    assert plan.steps < 1.1 * steps
    assert "10m at 10.0k tokens/s measured here" in said["steps"].because
    assert settled(budget="10m", here=here)[0] == settled(budget="600s", here=here)[0]
    assert settled(budget="20m", here=here)[0].steps > settled(budget="10m", here=here)[0].steps


def test_the_precision_is_what_this_machine_multiplies_fast_unless_the_recipe_says_it() -> None:
    slow = Here(has_fast_bf16=False)
    assert settled()[0].precision == "bf16"
    plan, said = settled(here=slow)
    assert (plan.precision, said["precision"].value) == ("fp32", "fp32")
    plan, said = settled(here=slow, precision="bf16")
    assert plan.precision == "bf16"
    assert "precision" not in said


def test_micro_batches_hold_2048_tokens_or_what_the_recipe_or_the_machine_says() -> None:
    assert settled(batch_tokens=65536)[0].micro_batch_rows == 4
    assert settled(batch_tokens=1024)[0].micro_batch_rows == 2
    assert settled(batch_tokens=65536, here=Here(tokens_at_once=8192))[0].micro_batch_rows == 16
    assert settled(batch_tokens=65536, micro_batch_rows=3)[0].micro_batch_rows == 3
    assert settled(batch_tokens=4096, micro_batch_rows=99)[0].micro_batch_rows == 8


def test_an_adapter_computes_half_as_many_at_once() -> None:
    asked: dict[str, Any] = {"base": "9" * 64, "batch_tokens": 65536, "adapter": {"rank": 4}}
    assert settled(**asked)[0].micro_batch_rows == 2
    assert settled(**asked, here=Here(frozen_tokens_at_once=8192))[0].micro_batch_rows == 16
    assert settled(**asked, micro_batch_rows=3)[0].micro_batch_rows == 3


def test_a_large_model_computes_fewer_rows_at_once() -> None:
    large = dataclasses.replace(SPEC, width=2048, heads=16, kv_heads=8, head_dim=128, layers=SPEC.layers * 8)
    here = Here(tokens_at_once=8192)
    wide, narrow = (settled(spec=large, batch_tokens=65536, precision=p, here=here) for p in ("fp32", "bf16"))
    assert wide[0].micro_batch_rows < narrow[0].micro_batch_rows < 16
    assert narrow[1]["at once"].value == f"{narrow[0].micro_batch_rows} of its rows"
    assert (
        settled(spec=large, batch_tokens=65536, micro_batch_rows=16)[1]["at once"].because == "train.micro_batch_rows"
    )


def test_rates_follow_the_width_and_the_decisions_say_so() -> None:
    shrink = math.sqrt(256 / 384)
    muon, said = settled()
    assert (muon.learning_rate, muon.embedding_learning_rate) == (MUON_RATE, pytest.approx(EMBEDDING_RATE * shrink))
    assert "same at any width" in said["learning rate (Muon, matrices)"].because
    assert said["learning rate (AdamW, embeddings)"].because == f"{EMBEDDING_RATE} sqrt(256/384)"
    adamw, said = settled(optimizer="adamw")
    assert adamw.learning_rate == pytest.approx(ADAMW_RATE * shrink)
    assert said["learning rate (AdamW)"].because == f"{ADAMW_RATE} sqrt(256/384)"
    own, said = settled(learning_rate=0.5, embedding_learning_rate=0.25)
    assert (own.learning_rate, own.embedding_learning_rate) == (0.5, 0.25)
    assert said["learning rate (Muon, matrices)"].because == "train.learning_rate"


def test_trained_weights_are_moved_gently_and_the_plan_says_why() -> None:
    plan, said = settled(base="b" * 64, budget="200 steps")
    assert (plan.base, plan.init_seed, plan.optimizer) == ("b" * 64, None, "adamw")
    assert plan.learning_rate == pytest.approx(ADAMW_RATE * math.sqrt(256 / 384) / GENTLER)
    assert (plan.warmup_steps, plan.decay_steps) == (20, 180)
    assert said["learning rate (AdamW)"].because.startswith(f"{ADAMW_RATE} sqrt(256/384) / {GENTLER}, ")
    assert said["optimizer"].value == "AdamW"
    assert said["schedule"].because.startswith("10% and 90% of the steps: ")


def test_what_the_recipe_names_goes_before_what_suits_a_base() -> None:
    plan, said = settled(base="b" * 64, budget="200 steps", optimizer="muon", warmup=0, decay="50%")
    assert (plan.optimizer, plan.warmup_steps, plan.decay_steps) == ("muon", 0, 100)
    assert plan.learning_rate == pytest.approx(MUON_RATE / GENTLER)
    assert plan.embedding_learning_rate == pytest.approx(EMBEDDING_RATE * math.sqrt(256 / 384) / GENTLER)
    assert said["schedule"].because == "0% and 50% of the steps"
    assert "optimizer" not in said
    assert settled(base="b" * 64, learning_rate=0.5)[0].learning_rate == 0.5


def test_the_schedule_is_in_shares_of_the_steps() -> None:
    plan, decisions = settled(budget="200 steps", warmup="5%", decay=0.25)
    assert (plan.warmup_steps, plan.decay_steps) == (10, 50)
    assert decisions["schedule"] == Decision("schedule", "warm-up 10, decay 50", "5% and 25% of the steps")


def test_a_step_larger_than_the_data_is_refused() -> None:
    with pytest.raises(PlanRefused, match="step of 8 rows is more than the 7 rows"):
        settled(num_rows=7, num_targets=3000, batch_tokens=4096)


def test_a_derived_batch_is_at_most_all_of_the_data() -> None:
    plan, _ = settled(num_rows=7, num_targets=3000)
    assert plan.batch_rows == 7


def test_what_needs_no_derivation_is_taken_over() -> None:
    values = {"clip": 0.5, "weight_decay": 0.0, "precision": "fp32", "validate_every": 7, "save_every": 9, "keep": 3}
    plan, _ = settled(**values, seed=11, validation_tokens=99)
    taken = {name: getattr(plan, name) for name in values}
    assert taken == values
    assert (plan.order_seed, plan.init_seed, plan.validation_tokens) == (11, 5, 99)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("budget", "7 steps"),
        ("batch_tokens", 1024),
        ("micro_batch_rows", 2),
        ("optimizer", "adamw"),
        ("learning_rate", 0.5),
        ("embedding_learning_rate", 0.5),
        ("weight_decay", 0.3),
        ("warmup", 0.9),
        ("decay", 0.1),
        ("clip", 2.0),
        ("precision", "fp32"),
        ("seed", 1),
        ("validate_every", 51),
        ("validation_tokens", 1),
        ("save_every", 201),
        ("keep", 5),
        ("keep_every", 50),
        ("spike", None),
        ("max_skips", 4),
        ("parallel", "shard"),
        ("tensor", 2),
        ("recompute", True),
        ("samples", 3),
        ("adapter", {"rank": 4}),
        ("storage", "int8"),
    ],
)
def test_no_field_is_dead(field: str, value: Any) -> None:
    two = Here(ranks=2)
    assert settled(here=two, **{field: value})[0] != settled(here=two)[0]


def test_the_list_of_fields_above_is_complete() -> None:
    marks = [mark for mark in test_no_field_is_dead.pytestmark if mark.name == "parametrize"]
    assert {row[0] for row in marks[0].args[1]} == set(TrainConfig.model_fields) - {"objective"}


@pytest.mark.parametrize(
    ("examples", "given"), [(None, "dpo"), ("answers", "next_token"), ("feedback", "dpo"), ("songs", None)]
)
def test_what_is_learned_must_be_what_the_data_is_for(examples: str | None, given: str | None) -> None:
    with pytest.raises(PlanRefused, match=r"learns? from|learned from"):
        settled(objective=given, examples=examples)


def test_examples_are_learned_as_they_are_made_for() -> None:
    assert settled()[0].objective == {"name": "next_token"}
    assert settled(examples="answers")[0].objective["name"] == "sft"
    assert settled(examples="answers")[1]["objective"].value == "sft (learn_prompts 0.05)"
    plan, said = settled(examples="answers", objective={"name": "sft", "noise": 5})
    assert plan.objective == {"name": "sft", "learn_prompts": 0.05, "noise": 5.0}
    assert said["objective"].value == "sft (learn_prompts 0.05, noise 5)"
    plan, said = settled(examples="preferences", objective={"name": "dpo", "beta": 0.3})
    assert plan.objective == {"name": "dpo", "beta": 0.3, "label_smoothing": 0.0}
    assert said["objective"].value == "dpo (beta 0.3, label_smoothing 0)"
    plan, said = settled(examples="feedback", balance=Balance(30, 90))
    assert plan.objective == {"name": "kto", "beta": 0.1, "good_weight": 3.0, "bad_weight": 1.0}
    assert said["weights of good and bad"].value == "3 and 1"
    assert said["objective"].value == "kto (beta 0.1, good_weight 3, bad_weight 1)"
    assert settled(examples="preferences")[0].learning_rate < settled(examples="answers")[0].learning_rate


def test_ranks_that_divide_products_are_told_with_how_the_rest_is_held() -> None:
    eight = Here(ranks=8, memory=GiB)
    plan, said = settled(tensor=2, parallel="shard", here=eight)
    assert (plan.tensor, plan.parallel, said["8 ranks"].value) == (2, "shard", "4 x 2 tensor, shard")
    assert settled(tensor=2, here=eight._replace(ranks=2))[1]["2 ranks"].value == "1 x 2 tensor"
    assert settled(here=eight)[1]["8 ranks"].value == "replicate"


def test_a_share_of_a_model_fits_where_the_whole_does_not() -> None:
    here = Here(ranks=2, memory=round(1.9 * WHOLE_BYTES * SPEC.parameters))
    assert (settled(here=here)[0].parallel, settled(tensor=2, here=here)[0].parallel) == ("shard", "replicate")


def test_what_cannot_be_divided_is_refused() -> None:
    with pytest.raises(PlanRefused, match="train.tensor 2 needs a multiple of so many ranks, and here 3 train"):
        settled(tensor=2, here=Here(ranks=3))
    with pytest.raises(PlanRefused, match="train.tensor 4 does not divide the 2 key/value heads") as caught:
        settled(tensor=4, here=Here(ranks=4))
    assert caught.value.hint == "this model can be divided among 2"


@given(num_rows=st.integers(8, 10**6), share=st.floats(0.01, 1.0), epochs=st.floats(0.01, 20))
def test_a_settled_plan_is_whole(num_rows: int, share: float, epochs: float) -> None:
    targets = max(1, int(num_rows * 512 * share))
    try:
        plan, _ = settled(num_rows=num_rows, num_targets=targets, budget=f"{epochs:.3f} epochs")
    except PlanRefused:
        return
    assert plan.steps >= 1
    assert 1 <= plan.micro_batch_rows <= plan.batch_rows <= num_rows
    assert 0 <= plan.warmup_steps <= plan.steps
    assert plan.learning_rate > 0
    json.dumps(plan.as_json(), allow_nan=False)


def test_heads_learn_from_examples_alone_in_steps_and_at_rates_of_their_own() -> None:
    """A reward has no words to forget, and vectors want many to be told apart from."""
    made: dict[str, Any] = {"base": "b", "num_rows": 200, "num_targets": 2_000, "budget": "1 epochs"}
    rates = {
        name: settled(**made, examples="preferences", objective=name, spec=spec)[0].learning_rate
        for name, spec in (("dpo", SPEC), ("reward", with_head(SPEC, Head(("reward",)), pad=2)))
    }
    assert rates["reward"] == pytest.approx(PREFERENCE_GENTLER * rates["dpo"])
    few, many = (settled(**made, examples="answers", objective=name)[0] for name in ("classify", "embed"))
    assert (few.batch_rows, many.batch_rows) == (2, 8)
    with pytest.raises(PlanRefused, match="classify learns from answers, and the data is made of preferences"):
        settled(**made, examples="preferences", objective="classify")
    with pytest.raises(PlanRefused, match="learns from answers or preferences, and the data is text"):
        settled(**made, objective="embed")
    with pytest.raises(PlanRefused, match="compares all texts of a step, and 2 ranks"):
        settled(**made, examples="answers", objective="embed", here=Here(ranks=2))
