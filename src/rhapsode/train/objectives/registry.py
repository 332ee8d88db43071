"""Objectives by their configuration."""

from collections.abc import Mapping
from typing import Any

from rhapsode.train.objective import NextToken, Objective
from rhapsode.train.objectives.embed import Embed
from rhapsode.train.objectives.heads import Classify, Reward
from rhapsode.train.objectives.pairs import Preferences, Reference


def make_objective(settled: Mapping[str, Any], *, reference: Reference | None = None) -> Objective:
    """The objective of a plan.

    Args:
        settled: the name and every number of it.
        reference: where it needs one, what the model was before.
    """
    numbers = {key: value for key, value in settled.items() if key != "name"}
    match settled["name"]:
        case "next_token" | "sft" as name:
            return NextToken(name)
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
    return settled["name"] in ("dpo", "ipo")
