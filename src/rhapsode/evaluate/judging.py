"""Answers and scorers: which items are a scorer's business, and what of an item it holds an answer against.

A scorer of words judges answers in words, by the row's own check where that is made for it, else by the answer that the
row has. A scorer of tool calls judges every answer to which tools were offered: not to call is an answer too.
"""

import ast
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from rhapsode.core.errors import RhapsodeError
from rhapsode.corpus.examples.check import kind_of
from rhapsode.evaluate.items import Item
from rhapsode.evaluate.scorers.registry import known
from rhapsode.evaluate.scorers.scorer import Judged, Scorer
from rhapsode.evaluate.scorers.tool_calls import aim as aim_of_calls


def concerns(scorer: str, item: Item) -> bool:
    """Whether an item is the business of the scorer of this name."""
    return bool(item.tools) if known(scorer).is_of_calls else not item.calls


def concerning(scorers: Sequence[str], items: Sequence[Item]) -> list[Item]:
    """The items that are the business of any of these scorers."""
    return [item for item in items if any(concerns(name, item) for name in scorers)]


def require_business(scorers: Sequence[str], items: Sequence[Item]) -> None:
    """Raises: RhapsodeError: one of the scorers would have nothing to judge."""
    for name in scorers:
        if not any(concerns(name, item) for item in items):
            what = "has tools" if known(name).is_of_calls else "asks for an answer in words"
            raise RhapsodeError(f"{name}: no row that is asked {what}", "leave the scorer out")


def aim(scorer: str, item: Item) -> str:
    """What the scorer of this name holds an answer to the item against."""
    found = known(scorer)
    if found.is_of_calls:
        return aim_of_calls(item.calls, item.tools)
    return item.check if item.check and kind_of(item.check) == found.check else item.wanted


def written(scorer: str, item: Item, answer: str) -> str:
    """The answer as the scorer of this name reads it: a program that the prompt begins is judged as a whole.

    Where a row has no check, what is wanted is no program, but its tests.
    """
    if scorer != "unit_tests" or not item.check or not isinstance(item.prompt, str):
        return answer
    return item.prompt + answer if _is_program(item.prompt, item.wanted) else answer


def score(scorer: Scorer, item: Item, answer: str) -> float:
    """What one answer is worth, from 0 to 1; not a number where it is none of the scorer's business.

    Raises:
        RhapsodeError: what the row says of the right answer cannot be used; the error names the item.
    """
    if not concerns(scorer.name, item):
        return float("nan")
    try:
        return scorer.score(written(scorer.name, item, answer), aim(scorer.name, item))
    except RhapsodeError as error:
        raise RhapsodeError(f"item {item.id}: {error.message}", error.hint) from None


def judge(scorer: Scorer, items: Sequence[Item], answers: Sequence[str]) -> Judged:
    """All answers to a set of items; those that are none of the scorer's business have no score and count nothing.

    Raises:
        RhapsodeError: as for one, or the scorer has no business here.
    """
    require_business([scorer.name], items)
    own = [at for at, item in enumerate(items) if concerns(scorer.name, item)]
    try:
        found = scorer.judge(
            [written(scorer.name, items[at], answers[at]) for at in own], [aim(scorer.name, items[at]) for at in own]
        )
    except RhapsodeError:
        for at in own:
            score(scorer, items[at], "")  # the row that is to blame is named
        raise
    scores = np.full(len(items), np.nan)
    counts = np.zeros((len(items), found.counts.shape[1]))
    scores[own], counts[own] = found
    return Judged(scores, counts)


@lru_cache(maxsize=4096)
def _is_program(prompt: str, wanted: str) -> bool:
    """Whether the prompt is the beginning of a program that the row's answer goes on with."""
    try:
        ast.parse(prompt + wanted)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True
