"""What sampled answers are worth: judged by scorers, and by how much each is better than the others to its prompt."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from rhapsode.core.errors import PlanRefused, RhapsodeError
from rhapsode.engine.sampling import Sampling
from rhapsode.evaluate.items import Item, draw
from rhapsode.evaluate.judging import aim, score
from rhapsode.evaluate.scorers.registry import scorer
from rhapsode.evaluate.scorers.scorer import Scorer
from rhapsode.evaluate.scorers.unit_tests import split_tests
from rhapsode.model.decoder import Decoder
from rhapsode.train.objective import Batch
from rhapsode.train.objectives.policy import Spread, group_advantages
from rhapsode.train.plan import TrainPlan
from rhapsode.train.rollouts import Answerer, Asking, Group, Rollouts, answerer

if TYPE_CHECKING:
    from rhapsode.train.trainer import Data

NAMED = 5
LOOKED_AT = 64
"""Held-out prompts of a look: enough for a curve; the verdict is another's, with intervals."""


class Part(NamedTuple):
    """A scorer, and what its score is multiplied with."""

    scorer: Scorer
    weight: float


class Reward:
    """The scores of an answer, each times its weight, added up."""

    def __init__(self, parts: Sequence[Mapping[str, Any]]) -> None:
        """`parts` have a scorer's name and a weight each."""
        self._parts = [Part(scorer(part["scorer"]), part["weight"]) for part in parts]

    @property
    def most(self) -> float:
        """That of an answer which every scorer holds to be right."""
        return sum(part.weight for part in self._parts)

    def __call__(self, answer: str, item: Item) -> float:
        """What an answer is worth.

        Raises:
            RhapsodeError: the item's row says nothing that the scorer can use; the error names it.
        """
        return sum(part.weight * score(part.scorer, item, answer) for part in self._parts)

    def require(self, item: Item, *, is_tried: bool) -> None:
        """Make sure that an answer to `item` could be judged; a program is run only where that `is_tried`.

        Raises:
            RhapsodeError: as for an answer.
        """
        if is_tried or not any(part.scorer.name == "unit_tests" for part in self._parts):
            self("", item)
        else:
            split_tests(aim("unit_tests", item))

    def judge(self, groups: Sequence[Group]) -> list[list[float]]:
        """Of every answer of every group; the same answer to a question is judged once."""
        return [_each(group, {text: self(text, group.item) for text in _texts(group)}) for group in groups]


def _texts(group: Group) -> list[str]:
    return list(dict.fromkeys(answer.text for answer in group.answers))


def _each(group: Group, worth: Mapping[str, float]) -> list[float]:
    return [worth[answer.text] for answer in group.answers]


class JudgedRollouts:
    """Rollouts with the advantage of every answer.

    A group whose answers are all worth the same says nothing, and has no gradient, unless the divergence from a
    reference is paid for. It is then not computed. It still counts, as what the others are divided by: their
    advantages are made smaller by as much as the divisor will be too small.

    Args:
        spread: what advantages are divided by, as in `group_advantages`.
        per: what a step is divided by: "token" is all its tokens, else all its answers.
        keeps_all: groups that say nothing are computed too.
    """

    def __init__(self, rollouts: Rollouts, reward: Reward, *, spread: Spread, per: str, keeps_all: bool) -> None:
        self._rollouts, self._reward = rollouts, reward
        self._spread: Spread = spread
        self._per, self._keeps_all = per, keeps_all
        self.measures: Mapping[str, float] = {}

    def rows_of(self, place: int) -> list[int]:
        """The prompts of a step, by number."""
        return self._rollouts.rows_of(place)

    def __call__(self, place: int) -> Batch:
        groups = self._rollouts.sample(place)
        rewards = self._reward.judge(groups)
        told_apart = [len(set(own)) > 1 for own in rewards]
        self.measures = {**_measures(rewards, self._reward.most, told_apart), **self._rollouts.measures}
        advantages = _advantages(rewards, spread=self._spread)
        if not self._keeps_all:
            kept = [index for index, says in enumerate(told_apart) if says]
            share = self._terms([groups[i] for i in kept]) / self._terms(groups)
            groups = [groups[i] for i in kept]
            advantages = [[share * value for value in advantages[i]] for i in kept]
        return self._rollouts.lay_out(groups, advantages=advantages)

    def _terms(self, groups: Sequence[Group]) -> int:
        return sum(len(one.ids) if self._per == "token" else 1 for group in groups for one in group.answers)


def require_judgeable(plan: TrainPlan, data: "Data") -> None:
    """Look at every row that will be asked, before anything is spent.

    Raises:
        PlanRefused: some say nothing that a scorer can use, or a scorer cannot work here.
    """
    reward, faults, why = Reward(plan.objective["reward"]), [], None
    for number, item in enumerate(data.items("train")):
        try:
            reward.require(item, is_tried=number == 0)
        except RhapsodeError as error:
            faults.append(item.id)
            why = why or error
    if why is not None:
        split = data.tokens.split("train")
        places = {split.document_id(index): split.document_source(index) for index in range(split.num_documents)}
        named = ", ".join(places[name] for name in faults[:NAMED]) + (", ..." if len(faults) > NAMED else "")
        raise PlanRefused(f"{len(faults):,} rows cannot be judged ({named}): {why.message}", why.hint)


def judged_rollouts(plan: TrainPlan, ask: Answerer, items: Sequence[Item]) -> JudgedRollouts:
    """As the plan's objective says."""
    numbers = plan.objective
    asking = Asking(numbers["prompts"], numbers["answers"], numbers["max_tokens"], numbers["temperature"])
    return JudgedRollouts(
        Rollouts(ask, items, asking=asking, seed=plan.order_seed),
        Reward(numbers["reward"]),
        spread=numbers["spread"],
        per=numbers["per"],
        keeps_all=numbers["divergence_cost"] > 0,
    )


class HeldOutReward:
    """What the likeliest answers to some held-out prompts are worth: always the same prompts, drawn by a hash."""

    def __init__(self, plan: TrainPlan, data: "Data") -> None:
        self._plan, self._tokenizer, self._reward = plan, data.tokenizer, Reward(plan.objective["reward"])
        self._items = draw(data.items("validation"), most=LOOKED_AT, seed=plan.order_seed)

    def __call__(self, model: Decoder) -> dict[str, float]:
        """The means, and how many prompts they are of; a prompt that leaves no room is not asked."""
        ask, most = answerer(self._plan, model, self._tokenizer), self._plan.objective["max_tokens"]
        asked = [(item, ask.prompt(item)) for item in self._items]
        asked = [(item, prompt) for item, prompt in asked if len(prompt) + most <= self._plan.context]
        greedy = Sampling(max_tokens=most, temperature=0)
        found = ask([(prompt, greedy) for _, prompt in asked])
        worth = [self._reward(one.text, item) for one, (item, _) in zip(found, asked, strict=True)]
        count = max(1, len(worth))
        solved = sum(value >= self._reward.most for value in worth)
        return {"reward": sum(worth) / count, "solved": solved / count, "prompts": len(worth)}


def _advantages(rewards: Sequence[Sequence[float]], *, spread: Spread) -> list[list[float]]:
    flat = torch.tensor([value for own in rewards for value in own], dtype=torch.float64)
    group = torch.tensor([index for index, own in enumerate(rewards) for _ in own])
    found = group_advantages(flat, group, spread=spread)
    return [own.tolist() for own in found.split([len(own) for own in rewards])]


def _measures(rewards: Sequence[Sequence[float]], most: float, told_apart: Sequence[bool]) -> dict[str, float]:
    every = [value for own in rewards for value in own]
    return {
        "reward": sum(every) / len(every),
        "solved": sum(value >= most for value in every) / len(every),
        "told_apart": sum(told_apart) / len(told_apart),
    }
