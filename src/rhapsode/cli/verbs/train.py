"""`rhapsode train`: a corpus to a model."""

from rhapsode.cli import options
from rhapsode.cli.console import give, stderr


def train(
    recipe: options.Recipe,
    /,
    *,
    overrides: options.Overrides = (),
    out: options.Out = options.OUT,
    resume: options.Resume = False,
    json: options.Json = False,
) -> None:
    """Train exactly what `plan` showed, and leave a model directory."""
    from rhapsode.cli.progress import watched
    from rhapsode.cli.tables import show_plan
    from rhapsode.recipe.layout import Layout
    from rhapsode.recipe.load import load_recipe
    from rhapsode.recipe.run import plan_run, train_run, walking

    loaded, layout = load_recipe(recipe, overrides), Layout(out)
    with watched() as events, walking(loaded, layout=layout, events=events, resume=resume) as walk:
        plan, cost = plan_run(loaded, layout=layout, events=events, must_match=True)
        show_plan(stderr(), plan, cost)
        model = train_run(walk, plan, cost, resume=resume)
    result = {"plan": plan.hash, "run": str(walk.run_dir), "model": str(model)}
    give(result, as_json=json, show=lambda console: console.print(f"model  {model}", soft_wrap=True))
