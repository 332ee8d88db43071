"""A sweep on the terminal: planning it, walking it, and showing how its runs stand."""

from collections.abc import Callable, Sequence

from rich.console import Console
from rich.table import Table

from rhapsode.cli.console import give, stderr, table
from rhapsode.cli.progress import watched
from rhapsode.core.units import format_bytes, format_seconds
from rhapsode.recipe.layout import Layout
from rhapsode.recipe.load import LoadedRecipe
from rhapsode.recipe.plan import Plan
from rhapsode.recipe.run import check_gate, plan_run
from rhapsode.recipe.sweep.members import Sweep
from rhapsode.recipe.sweep.standing import Planned, Standing
from rhapsode.recipe.sweep.table import Rows, group_rows, headline, plan_rows, remarks, result_rows
from rhapsode.recipe.sweep.walk import check_failures, plan_sweep, walk_sweep
from rhapsode.train.forecast import Forecast


def plan_all(sweep: Sweep, *, layout: Layout, as_json: bool) -> None:
    """Plan all runs and show them in one table."""
    planned = plan_sweep(sweep, _planner(layout, must_match=False), layout=layout)
    runs = [
        {
            "name": one.name,
            "values": one.member.values,
            "plan": one.hash,
            "parameters": one.parameters,
            "steps": one.steps,
            "seconds": one.seconds,
            "tokens_per_second": one.tokens_per_second,
            "memory_bytes": one.memory_bytes,
            "disk_bytes": one.disk_bytes,
        }
        for one in planned
    ]
    result = {"sweep": sweep.name, "runs": runs, "seconds": sum(one.seconds for one in planned)}
    give(result, as_json=as_json, show=lambda console: _show_plan(console, sweep, planned))


def walk_all(
    sweep: Sweep,
    walk: Callable[[LoadedRecipe], object],
    *,
    layout: Layout,
    resume: bool,
    as_json: bool,
    must_match: bool = False,
) -> None:
    """Walk all runs, each as `walk` does it, and show how they stand.

    Raises:
        GateNotPassed: the best of them is not good enough for the recipe's gate.
        RhapsodeError: some of them did not come to their end.
    """
    standing = walk_sweep(
        sweep,
        layout=layout,
        plan_one=_planner(layout, must_match=must_match),
        walk_one=_telling(sweep, walk),
        tell=lambda planned: _show_plan(stderr(), sweep, planned),
        resume=resume,
    )
    page = layout.runs / sweep.name / "sweep.html"

    def show(console: Console) -> None:
        _show_standing(console, standing)
        console.print(f"\nlook at it    {page}", soft_wrap=True)

    give({**standing.as_json(), "report": str(page)}, as_json=as_json, show=show)
    if standing.best is not None and standing.best.evaluation is not None:
        check_gate(standing.best.evaluation, standing.best.task)
    check_failures(standing)


def _planner(layout: Layout, *, must_match: bool) -> Callable[[LoadedRecipe], tuple[Plan, Forecast]]:
    def plan_one(loaded: LoadedRecipe) -> tuple[Plan, Forecast]:
        stderr().print(f"Planning {loaded.recipe.task.name}", style="bold", soft_wrap=True)
        with watched() as events:
            return plan_run(loaded, layout=layout, events=events, must_match=must_match)

    return plan_one


def _telling(sweep: Sweep, walk: Callable[[LoadedRecipe], object]) -> Callable[[LoadedRecipe], object]:
    """Walk, and say which of them it is."""
    numbers = {member.name: number for number, member in enumerate(sweep.members, start=1)}

    def walk_one(loaded: LoadedRecipe) -> object:
        name = loaded.recipe.task.name
        stderr().print(f"\nRun {numbers[name]} of {len(numbers)}: {name}", style="bold", soft_wrap=True)
        return walk(loaded)

    return walk_one


def _show_plan(console: Console, sweep: Sweep, planned: Sequence[Planned]) -> None:
    console.print(_table(f"Sweep {sweep.name}: {len(planned)} runs, one after the other", plan_rows(sweep, planned)))
    seconds, disk = (sum(column) for column in zip(*((one.seconds, one.disk_bytes) for one in planned), strict=True))
    memory = max(one.memory_bytes for one in planned)
    console.print(
        f"{format_seconds(seconds)} of training in all; at most {format_bytes(memory)} of memory and "
        f"{format_bytes(disk)} of disk",
        soft_wrap=True,
    )


def _show_standing(console: Console, standing: Standing) -> None:
    console.print(_table(f"Sweep {standing.sweep.name}: {headline(standing)}", result_rows(standing)))
    groups = group_rows(standing)
    if groups.rows:
        console.print(_table("Over seeds", groups))
    for sentence in remarks(standing):
        console.print(sentence, soft_wrap=True)


def _table(title: str, rows: Rows) -> Table:
    return table(title, rows.columns, rows.rows, right=[rows.columns.index(name) for name in rows.figures])
