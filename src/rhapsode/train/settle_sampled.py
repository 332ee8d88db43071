"""What a plan settles where answers are sampled: a step is so many prompts with their answers. Free of torch."""

from typing import NamedTuple

from rhapsode.core.errors import PlanRefused
from rhapsode.train.objectives.config import GrpoConfig, OwnConfig
from rhapsode.train.plan import Decision


class Prompts(NamedTuple):
    """What the training data asks: how many prompts, and the tokens of the longest."""

    number: int
    longest: int


class Sizes(NamedTuple):
    """What a step takes its rows from: how many there are, what all of them have to learn, and places of a row."""

    rows: int
    targets: int
    width: int


def sampled_sizes(objective: GrpoConfig, asked: Prompts, *, context: int, ranks: int) -> Sizes:
    """A prompt with its answers is a row; all of them are taken to be as long as they may be.

    Raises:
        PlanRefused: several processes train, a prompt leaves too little room for an answer, or prompts are too few.
    """
    _require_room("train.objective", asked, max_tokens=objective.max_tokens, context=context, ranks=ranks)
    if objective.prompts > asked.number:
        raise PlanRefused(
            f"a step of {objective.prompts:,} prompts is more than the {asked.number:,} of the training data",
            "add data, or make train.objective.prompts smaller",
        )
    each = objective.answers * objective.max_tokens
    return Sizes(asked.number, asked.number * each, asked.longest - 1 + each)


def own_answers(own: OwnConfig, asked: Prompts | None, *, context: int, ranks: int) -> Decision:
    """How a student's own answers come among those that are given.

    Raises:
        PlanRefused: the data asks for none, or as for `sampled_sizes`.
    """
    if asked is None:
        raise PlanRefused("train.objective.own: text asks for no answers", "leave it out, or give data.examples")
    _require_room("train.objective.own", asked, max_tokens=own.max_tokens, context=context, ranks=ranks)
    return Decision(
        "own answers",
        f"{own.share:.0%} of the steps, at most {own.max_tokens} tokens each",
        "train.objective.own; to the prompts of the step's rows, one each, sampled by the weights as they are",
    )


def _require_room(key: str, asked: Prompts, *, max_tokens: int, context: int, ranks: int) -> None:
    if ranks > 1:
        raise PlanRefused(
            f"{key} samples its answers in one process, and here {ranks} train together", "start it with one"
        )
    if (need := asked.longest + max_tokens) > context:
        raise PlanRefused(
            f"the longest prompt has {asked.longest:,} tokens, and with an answer of {max_tokens:,} it needs "
            f"{need:,}; model.context is {context:,}",
            f"raise model.context, or make {key}.max_tokens smaller",
        )


def sampled_batch(objective: GrpoConfig, num_prompts: int) -> tuple[int, Decision]:
    """Rows a step, and how much they are at most."""
    answers = objective.prompts * objective.answers
    said = f"{objective.prompts} of {num_prompts:,} prompts, {answers:,} answers"
    why = f"train.objective; at most {answers * objective.max_tokens:,} tokens a step, each sampled and then learned"
    return objective.prompts, Decision("batch", said, why)


def judging(objective: GrpoConfig) -> list[Decision]:
    """What answers are worth, and how they are sampled."""
    reward = " + ".join(f"{part.weight:g} x {part.scorer}" for part in objective.reward)
    over = {"group": ", over their deviation", "batch": ", over the deviation in the step", "none": ""}
    worth = f"less the mean of all answers to the same prompt{over[objective.spread]}"
    alike = {"answer": "answer", "token": "token"}.get(objective.per, f"token is 1/{objective.max_tokens} of an answer")
    cost = f"leaving the base costs {objective.divergence_cost:g}" if objective.divergence_cost else "leaving is free"
    how = f"at temperature {objective.temperature:g} by the weights as they are, and learned from once: none is clipped"
    return [
        Decision("reward", reward, f"train.objective.reward; {worth}"),
        Decision(
            "answers",
            f"{objective.answers} to a prompt, at most {objective.max_tokens} tokens each",
            f"sampled {how}; every {alike}{'' if objective.per == 'limit' else ' has the same weight'}; {cost}",
        ),
    ]
