"""`rhapsode run`: the whole recipe."""

from rich.console import Console

from rhapsode.cli import options
from rhapsode.cli.console import give, program, stderr


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
    from rhapsode.cli.tables import show_evaluation, show_plan, show_spoken
    from rhapsode.recipe.layout import Layout
    from rhapsode.recipe.load import load_recipe
    from rhapsode.recipe.run import check_gate, evaluate_run, plan_run, train_run, walking

    loaded, layout = load_recipe(recipe, overrides), Layout(out)
    with watched() as events, walking(loaded, layout=layout, events=events, resume=resume) as walk:
        plan, cost = plan_run(loaded, layout=layout, events=events)
        show_plan(stderr(), plan, cost)
        model = train_run(walk, plan, cost, resume=resume)
        evaluation, spoken = evaluate_run(walk, plan, model)
    report = walk.run_dir / "report.html"

    def show(console: Console) -> None:
        show_spoken(console, spoken)
        show_evaluation(console, evaluation)
        console.print(f"\nlook at it    {report}", soft_wrap=True)
        for what, verb in (("talk to it", "chat"), ("serve it", "serve")):
            console.print(f"{what:<13} {program()} {verb} {walk.run_dir}", soft_wrap=True)

    result = {
        "plan": plan.hash,
        "run": str(walk.run_dir),
        "model": str(model),
        "report": str(report),
        "evaluation": evaluation.as_json(),
    }
    give(result, as_json=json, show=show)
    check_gate(evaluation)
