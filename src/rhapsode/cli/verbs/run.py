"""`rhapsode run`: the whole recipe."""

from rich.console import Console

from rhapsode.cli import options
from rhapsode.cli.console import give


def run(
    recipe: options.Recipe,
    /,
    *,
    overrides: options.Overrides = (),
    out: options.Out = options.OUT,
    resume: options.Resume = False,
    json: options.Json = False,
) -> None:
    """Prepare the data, train, evaluate, and write the report."""
    from rhapsode.cli.progress import watched
    from rhapsode.cli.tables import show_evaluation
    from rhapsode.recipe.layout import Layout
    from rhapsode.recipe.load import load_recipe
    from rhapsode.recipe.run import check_gate, evaluate_run, plan_run, require_same, train_run, walking

    loaded, layout = load_recipe(recipe, overrides), Layout(out)
    with watched() as events, walking(loaded, layout=layout, events=events, resume=resume) as walk:
        require_same(loaded, layout=layout, events=events)
        plan, cost = plan_run(loaded, layout=layout, events=events)
        model = train_run(walk, plan, cost, resume=resume)
        evaluation, _ = evaluate_run(walk, plan, model)
    report = walk.run_dir / "report.html"

    def show(console: Console) -> None:
        show_evaluation(console, evaluation)
        console.print(f"model   {model}\nreport  {report}", soft_wrap=True)

    result = {
        "plan": plan.hash,
        "run": str(walk.run_dir),
        "model": str(model),
        "report": str(report),
        "evaluation": evaluation.as_json(),
    }
    give(result, as_json=json, show=show)
    check_gate(evaluation)
