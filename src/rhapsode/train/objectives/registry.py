"""Objectives by their configuration."""

from collections.abc import Mapping
from typing import Any

from rhapsode.train.objective import NextToken, Objective
from rhapsode.train.objectives.feedback import Feedback
from rhapsode.train.objectives.pairs import Preferences, Reference
from rhapsode.train.ranks.ranks import ALONE, Ranks


def make_objective(
    settled: Mapping[str, Any], *, reference: Reference | None = None, ranks: Ranks = ALONE
) -> Objective:
    """The objective of a plan.

    Args:
        settled: the name and every number of it.
        reference: where it needs one, what the model was before.
        ranks: among which a step's rows are divided.
    """
    numbers = {key: value for key, value in settled.items() if key != "name"}
    match settled["name"]:
        case "next_token" | "sft" as name:
            return NextToken(name)
        case "kto":
            assert reference is not None, "this objective compares with the model of before"
            return Feedback(numbers, reference=reference, ranks=ranks)
        case name:
            return Preferences(name, numbers, reference=reference)


def needs_reference(settled: Mapping[str, Any]) -> bool:
    """Whether it compares with the model of before."""
    return settled["name"] in ("dpo", "ipo", "kto")
