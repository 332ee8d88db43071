"""What is learned, and of which weights: what data and recipe say together. Free of torch."""

from rhapsode.core.errors import PlanRefused
from rhapsode.train.config import TrainConfig
from rhapsode.train.objectives.balance import Balance, balanced
from rhapsode.train.objectives.config import (
    DEFAULTS,
    FOR,
    GrpoConfig,
    KtoConfig,
    ObjectiveConfig,
)
from rhapsode.train.plan import Decision
from rhapsode.train.settle_sampled import judging


def settle_objective(
    config: TrainConfig, examples: str | None, balance: Balance | None
) -> tuple[ObjectiveConfig, list[Decision]]:
    """What is learned, and of which weights."""
    if examples not in DEFAULTS and config.objective is None:
        raise PlanRefused(f"nothing is learned from {examples} yet", "give answers, or pairs of them")
    found = config.objective or DEFAULTS[examples]
    if examples not in FOR[found.name]:
        wanted = " or ".join(family or "text" for family in FOR[found.name])
        raise PlanRefused(
            f"train.objective {found.name} learns from {wanted}, and the data is "
            f"{f'made of {examples}' if examples else 'text'}",
            "leave train.objective out, or give it other data",
        )
    if found.name == "next_token" and config.adapter is None:
        return found, []
    found, weighed = _weighed(found, balance)
    left_out = {"name", "teacher", "own"}
    given = {} if isinstance(found, GrpoConfig) else found.model_dump(exclude=left_out, exclude_none=True)
    numbers = ", ".join(f"{k} {value if isinstance(value, str) else f'{value:g}'}" for k, value in given.items())
    why = "train.objective" if config.objective else f"what {examples or 'text'} is for"
    learned = [Decision("objective", f"{found.name}{f' ({numbers})' if numbers else ''}", why)]
    if isinstance(found, GrpoConfig):
        learned += judging(found)
    if (adapter := config.adapter) is not None:
        kind = f"{adapter.kind}, rank {adapter.rank}, of {', '.join(adapter.targets)}"
        kept = f"; the weights beside it are frozen{f' and kept as {config.storage}' if config.storage else ''}"
        learned.append(Decision("adapter", kind, f"train.adapter{kept}"))
    return found, learned + weighed


def _weighed(found: ObjectiveConfig, balance: Balance | None) -> tuple[ObjectiveConfig, list[Decision]]:
    """With the weights of good and bad answers, where it has any and nobody has given both."""
    if not isinstance(found, KtoConfig) or None not in (found.good_weight, found.bad_weight):
        return found, []
    assert balance is not None, "feedback is good or bad"
    weights = balanced(balance)
    found = found.model_copy(
        update={"good_weight": found.good_weight or weights.good, "bad_weight": found.bad_weight or weights.bad}
    )
    why = f"{balance.good:,} good and {balance.bad:,} bad answers; weighted they are to be as 1 : 1 to 4 : 3"
    return found, [Decision("weights of good and bad", f"{found.good_weight:.4g} and {found.bad_weight:.4g}", why)]
