"""How `train` and `run` begin: meet the other ranks if there are any, plan, show the plan, train."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from rhapsode.cli.console import print_error, stderr
from rhapsode.cli.progress import watched
from rhapsode.cli.tables import show_plan
from rhapsode.core.errors import Interrupted, RecipeError, RhapsodeError
from rhapsode.core.events import Events
from rhapsode.recipe.layout import Layout
from rhapsode.recipe.load import LoadedRecipe
from rhapsode.recipe.plan import Plan
from rhapsode.recipe.run import Walk, plan_run, train_run, walking
from rhapsode.recipe.sweep.members import Sweep
from rhapsode.train.ranks.join import joined, place
from rhapsode.train.ranks.ranks import ALONE, Ranks


class Trained(NamedTuple):
    """The end of the training: its last checkpoint, what was planned, and the run that still listens."""

    walk: Walk
    plan: Plan
    model: Path


@contextlib.contextmanager
def trained(
    loaded: LoadedRecipe, *, layout: Layout, resume: bool, must_match: bool = False, ranks: Ranks = ALONE
) -> Iterator[Trained]:
    """Train one run with its progress shown; whatever comes after stands in the block.

    Args:
        must_match: train nothing else than what was planned before, if it was.
        ranks: the processes that train together, of which this one is the first.
    """
    with watched() as events, walking(loaded, layout=layout, events=events, resume=resume, ranks=ranks) as walk:
        plan, cost = plan_run(loaded, layout=layout, events=events, must_match=must_match, ranks=ranks)
        show_plan(stderr(), plan, cost)
        yield Trained(walk, plan, train_run(walk, plan, cost, resume=resume))


@contextlib.contextmanager
def led(
    given: LoadedRecipe | Sweep, *, layout: Layout, resume: bool = False, must_match: bool = False, trains: bool = True
) -> Iterator[Ranks | None]:
    """The ranks for the one that leads them. None for the others: silent, they do their part before the block begins.

    Args:
        trains: whether training follows the plan.

    Raises:
        RecipeError: several ranks are given a sweep.
    """
    here = place()
    try:
        with joined() as ranks:
            if ranks.size > 1 and isinstance(given, Sweep):
                raise RecipeError(
                    "the runs of a sweep are walked by one process", "give torchrun each of them as a recipe of its own"
                )
            if ranks.rank > 0 and not isinstance(given, Sweep):
                _follow(given, layout=layout, ranks=ranks, resume=resume, must_match=must_match, trains=trains)
            yield ranks if ranks.rank == 0 else None
    except RhapsodeError as error:
        if here is None or here.rank == 0:
            raise
        # results, also those that are errors, are given by the first rank alone
        if not isinstance(error, Interrupted):
            print_error(error)
        sys.exit(error.exit_code)


def _follow(
    loaded: LoadedRecipe, *, layout: Layout, ranks: Ranks, resume: bool, must_match: bool, trains: bool
) -> None:
    """What the first rank does, in silence."""
    events = Events()
    with walking(loaded, layout=layout, events=events, resume=resume, ranks=ranks) as walk:
        plan, cost = plan_run(loaded, layout=layout, events=events, must_match=must_match, ranks=ranks)
        if trains:
            train_run(walk, plan, cost, resume=resume)
