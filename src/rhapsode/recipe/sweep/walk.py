"""Plan all runs of a sweep before one is trained, then walk them one after the other.

How a run is planned and walked is handed in: it is what a run alone goes through. From the beginning, and anew after
each run, sweep.json and sweep.html in the sweep's own directory tell how all of them stand. A run that fails does not
hold up the others.
"""

import json
from collections.abc import Callable
from pathlib import Path

from rhapsode.core.errors import Interrupted, PlanRefused, RhapsodeError
from rhapsode.core.lock import locked
from rhapsode.core.machine import examine
from rhapsode.core.units import format_bytes
from rhapsode.recipe.layout import Layout
from rhapsode.recipe.load import LoadedRecipe
from rhapsode.recipe.plan import Plan
from rhapsode.recipe.sweep.members import Sweep
from rhapsode.recipe.sweep.page import write_page
from rhapsode.recipe.sweep.standing import Planned, Standing, read_measured, stand
from rhapsode.train.forecast import Forecast
from rhapsode.weights.names import checkpoints

PlanOne = Callable[[LoadedRecipe], tuple[Plan, Forecast]]


def plan_sweep(sweep: Sweep, plan_one: PlanOne, *, layout: Layout) -> list[Planned]:
    """Settle and forecast every run; each plan is kept as if it had been made alone.

    Raises:
        PlanRefused: one of them cannot succeed (the message begins with its name), or there is no room for all.
    """
    planned = []
    for member in sweep.members:
        try:
            plan, cost = plan_one(member.loaded)
        except PlanRefused as error:
            raise PlanRefused(f"{member.name}: {error.message}", error.hint) from None
        planned.append(
            Planned(
                member,
                plan.hash,
                plan.train.spec.parameters,
                plan.train.steps,
                cost.seconds,
                cost.tokens_per_second,
                cost.memory_bytes,
                cost.disk_bytes,
            )
        )
    _require_disk(planned, layout)
    return planned


def walk_sweep(
    sweep: Sweep,
    *,
    layout: Layout,
    plan_one: PlanOne,
    walk_one: Callable[[LoadedRecipe], object],
    tell: Callable[[list[Planned]], None],
    resume: bool,
) -> Standing:
    """Walk every run that is not measured yet.

    Args:
        plan_one, walk_one: what a run goes through; walking resumes if that is asked for.
        tell: hears of the plans before anything is trained.

    Raises:
        RhapsodeError: another process works here, or a run holds a model already and `resume` is not asked for.
        PlanRefused: as `plan_sweep`, or what lies there belongs to another plan.
        Interrupted: a signal asked to stop; the work so far is saved.
    """
    room, failures = layout.runs / sweep.name, dict[str, str]()
    with locked(room):
        if not resume:
            _require_unused(sweep, layout)
        planned = plan_sweep(sweep, plan_one, layout=layout)
        tell(planned)
        standing = _write(stand(sweep, planned, layout=layout, failures=failures), room)
        for one in planned:
            if resume and read_measured(layout.runs / one.name, plan=one.hash).evaluation is not None:
                continue
            try:
                walk_one(one.member.loaded)
            except (Interrupted, PlanRefused):
                raise
            except RhapsodeError as error:
                failures[one.name] = error.message
            standing = _write(stand(sweep, planned, layout=layout, failures=failures), room)
    return standing


def check_failures(standing: Standing) -> None:
    """Raises RhapsodeError if a run did not come to its end."""
    failed = [one for one in standing.outcomes if one.state == "failed"]
    if failed:
        listed = "\n".join(f"  {one.name}: {one.failure}" for one in failed)
        raise RhapsodeError(
            f"{len(failed)} of {len(standing.outcomes)} runs failed:\n{listed}",
            "put right what stopped them and go on with --resume, or leave their values out",
        )


def _require_unused(sweep: Sweep, layout: Layout) -> None:
    used = [layout.runs / member.name for member in sweep.members if checkpoints(layout.runs / member.name)]
    if used:
        more = f" and {len(used) - 1} more" if len(used) > 1 else ""
        raise RhapsodeError(
            f"{used[0]}{more} hold models of an earlier run" if more else f"{used[0]} holds a model of an earlier run",
            "go on with --resume, choose another task.name, or remove the directory",
        )


def _require_disk(planned: list[Planned], layout: Layout) -> None:
    """Each run alone has been checked; what they leave together may still be too much."""
    need = sum(one.disk_bytes for one in planned if not checkpoints(layout.runs / one.name))
    if need > (free := examine(layout.out).disk_free):
        raise PlanRefused(
            f"checkpoints of all runs need {format_bytes(need)} of disk, {format_bytes(free)} is free",
            "free some space, write elsewhere with --out, make train.keep smaller, or try fewer values",
        )


def _write(standing: Standing, room: Path) -> Standing:
    text = json.dumps(standing.as_json(), indent=1, ensure_ascii=False, allow_nan=False)
    (room / "sweep.json").write_text(text + "\n", encoding="utf-8")
    write_page(room / "sweep.html", standing)
    return standing
