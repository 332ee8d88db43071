"""`rhapsode plan`: everything that would happen."""

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
    """Prepare the data, settle every number, take two real steps, and show what a run would do and cost.

    The plan is kept: a later `train` refuses to be anything else, a later `run` tells what has changed.
    """
    from rhapsode.cli.progress import watched
    from rhapsode.cli.tables import show_plan
    from rhapsode.recipe.layout import Layout
    from rhapsode.recipe.load import load_recipe
    from rhapsode.recipe.run import plan_run

    loaded = load_recipe(recipe, overrides)
    with watched() as events:
        settled, cost = plan_run(loaded, layout=Layout(out), events=events)
    result = {
        "plan": settled.hash,
        "settled": settled.settled,
        "decisions": [decision._asdict() for decision in settled.decisions],
        "forecast": cost.as_json(),
        "samples": [sample._asdict() for sample in settled.samples],
    }
    give(result, as_json=json, show=lambda console: show_plan(console, settled, cost, with_samples=True))
