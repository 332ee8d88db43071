"""`rhapsode plan`: everything that would happen."""

from rich.console import Console

from rhapsode.cli import options
from rhapsode.cli.console import give


def plan(
    recipe: options.Recipe,
    /,
    *,
    overrides: options.Overrides = (),
    out: options.Out = options.OUT,
    json: options.Json = False,
) -> None:
    """Prepare the data, settle every number, take some real steps, and show what a run would do and cost.

    The plan is kept: a later `train` refuses to be anything else, a later `run` tells what has changed. Of a sweep,
    all runs are planned and shown in one table.
    """
    from rhapsode.cli import sweep
    from rhapsode.cli.progress import watched
    from rhapsode.cli.tables import show_plan
    from rhapsode.cli.training import led
    from rhapsode.recipe.layout import Layout
    from rhapsode.recipe.run import plan_run
    from rhapsode.recipe.sweep.members import Sweep, load_runs

    given, layout = load_runs(recipe, overrides), Layout(out)
    with led(given, layout=layout, trains=False) as ranks:
        if ranks is None:
            return
        if isinstance(given, Sweep):
            sweep.plan_all(given, layout=layout, as_json=json)
            return
        with watched() as events:
            settled, cost = plan_run(given, layout=layout, events=events, ranks=ranks)
    page = layout.plans / settled.name / "plan.html"
    result = {
        "plan": settled.hash,
        "settled": settled.settled,
        "decisions": [decision._asdict() for decision in settled.decisions],
        "forecast": cost.as_json(),
        "samples": [sample._asdict() for sample in settled.samples],
        "page": str(page),
    }

    def show(console: Console) -> None:
        show_plan(console, settled, cost, with_samples=True)
        console.print(f"look at it    {page}", soft_wrap=True)

    give(result, as_json=json, show=show)
