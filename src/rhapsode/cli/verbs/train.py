"""`rhapsode train`: a corpus to a model."""

from rhapsode.cli import options
from rhapsode.cli.console import give


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
    from rhapsode.recipe.layout import Layout
    from rhapsode.recipe.load import load_recipe
    from rhapsode.recipe.run import plan_run, require_same, train_run, walking

    loaded, layout = load_recipe(recipe, overrides), Layout(out)
    with watched() as events, walking(loaded, layout=layout, events=events, resume=resume) as walk:
        require_same(loaded, layout=layout, events=events)
        plan, cost = plan_run(loaded, layout=layout, events=events)
        model = train_run(walk, plan, cost, resume=resume)
    result = {"plan": plan.hash, "run": str(walk.run_dir), "model": str(model)}
    give(result, as_json=json, show=lambda console: console.print(f"model  {model}", soft_wrap=True))
