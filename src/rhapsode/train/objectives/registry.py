"""Objectives by their configuration."""

from collections.abc import Mapping
from typing import Any

from rhapsode.model.decoder import Decoder
from rhapsode.train.objective import NextToken, Objective
from rhapsode.train.objectives.embed import Embed
from rhapsode.train.objectives.feedback import Feedback
from rhapsode.train.objectives.grpo import GroupPolicy
from rhapsode.train.objectives.heads import Classify, Reward
from rhapsode.train.objectives.pairs import Preferences, Reference
from rhapsode.train.objectives.teacher import Distillation
from rhapsode.train.ranks.ranks import ALONE, Ranks


def make_objective(
    settled: Mapping[str, Any],
    *,
    reference: Reference | None = None,
    teacher: Decoder | None = None,
    ranks: Ranks = ALONE,
) -> Objective:
    """The objective of a plan.

    Args:
        settled: the name and every number of it.
        reference: where it needs one, what the model was before.
        teacher: where it needs one, the model that is learned from.
        ranks: among which a step's rows are divided.
    """
    numbers = {key: value for key, value in settled.items() if key != "name"}
    match settled["name"]:
        case "next_token" | "sft" as name:
            return NextToken(name)
        case "grpo":
            return GroupPolicy(numbers, reference=reference)
        case "distil":
            assert teacher is not None, "this objective learns from a teacher"
            numbers.pop("own")
            return Distillation(numbers, teacher=teacher)
        case "kto":
            assert reference is not None, "this objective compares with the model of before"
            return Feedback(numbers, reference=reference, ranks=ranks)
        case "classify":
            return Classify()
        case "reward":
            return Reward(**numbers)
        case "embed":
            return Embed(temperature=numbers["temperature"])  # how to pool is the model's
        case name:
            return Preferences(name, numbers, reference=reference)


def needs_reference(settled: Mapping[str, Any]) -> bool:
    """Whether it compares with the model of before."""
    return settled["name"] in ("dpo", "ipo", "kto") or bool(settled.get("divergence_cost"))


def samples_answers(settled: Mapping[str, Any]) -> bool:
    """Whether it learns from answers of the model itself, so that the data only asks."""
    return bool(settled["name"] == "grpo")


def own_share(settled: Mapping[str, Any]) -> float:
    """The share of the steps in which answers of the model itself stand in place of those that are given."""
    own = settled.get("own")
    return float(own["share"]) if own else 0.0
