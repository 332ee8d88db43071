"""`rhapsode train --launch`: the training as a job for other machines, or for all processes of this one."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from rhapsode.cli.console import give, stderr
from rhapsode.core.errors import RecipeError
from rhapsode.launch.job import Job, make_job
from rhapsode.launch.targets import TARGETS
from rhapsode.launch.write import Written, start, submit, write_job
from rhapsode.recipe.sweep.members import Sweep, load_runs


def launch(
    recipe: Path,
    *,
    to: str,
    overrides: Sequence[str],
    out: Path,
    resume: bool,
    hand_over: bool,
    as_json: bool,
) -> None:
    """Write the job and say how it begins; on this machine it begins at once, elsewhere if that is asked for.

    Args:
        to: a name of `TARGETS`.
        hand_over: give it to the scheduler.
    """
    job = _job(recipe, overrides=overrides, out=out, resume=resume, as_json=as_json and to == "torchrun")
    written = write_job(job, to)

    def show(console: Console) -> None:
        console.print(f"written   {written.path}", soft_wrap=True)
        for number, line in enumerate(written.lines):
            console.print(f"{'begin it' if number == 0 else '':<9} {line}", soft_wrap=True)
        if written.unused:
            names = ", ".join(f"launch.{name}" for name in written.unused)
            console.print(f"no use    {TARGETS[to].title} has none for {names}", soft_wrap=True)

    if written.is_here:
        show(stderr())  # the result is that of the training
        start(written)
    if hand_over:
        show(stderr())
        submit(written)
        give(_result(to, written, is_submitted=True), as_json=as_json, show=lambda _: None)
        return
    give(_result(to, written, is_submitted=False), as_json=as_json, show=show)


def _result(to: str, written: Written, *, is_submitted: bool) -> dict[str, object]:
    return {
        "target": to,
        "job": str(written.path),
        "commands": written.lines,
        "unused": written.unused,
        "submitted": is_submitted,
    }


def _job(recipe: Path, *, overrides: Sequence[str], out: Path, resume: bool, as_json: bool) -> Job:
    given = load_runs(recipe, overrides)
    recipes = [member.loaded.recipe for member in given.members] if isinstance(given, Sweep) else [given.recipe]
    config = recipes[0].launch
    if len(recipes) > 1 and config.nodes * config.per_node > 1:
        raise RecipeError(
            "sweep: its runs go one after the other in one process, but launch has "
            f"{config.nodes * config.per_node} of them",
            "launch each run by itself: --set 'sweep={}' with its values, or set launch.per_node and nodes to 1",
        )
    return make_job(
        config,
        name=given.name if isinstance(given, Sweep) else given.recipe.task.name,
        runs=[one.task.name for one in recipes],
        here=Path.cwd(),
        recipe=recipe,
        out=out,
        changes=overrides,
        resume=resume,
        as_json=as_json,
    )
