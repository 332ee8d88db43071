"""`rhapsode run`: the whole recipe."""

from rich.console import Console

from rhapsode.cli import options
from rhapsode.cli.console import give, program


def run(
    recipe: options.Recipe,
    /,
    *,
    overrides: options.Overrides = (),
    out: options.Out = options.OUT,
    resume: options.Resume = False,
    json: options.Json = False,
) -> None:
    """Prepare the data, train, evaluate, and write the report; a sweep is walked run by run and compared."""
    from rhapsode.cli import sweep
    from rhapsode.cli.tables import show_evaluation, show_spoken, show_task
    from rhapsode.cli.training import Trained, led, trained
    from rhapsode.recipe.findings import Findings, evaluate_run
    from rhapsode.recipe.layout import Layout
    from rhapsode.recipe.load import LoadedRecipe
    from rhapsode.recipe.run import check_gate
    from rhapsode.recipe.sweep.members import Sweep, load_runs

    given, layout = load_runs(recipe, overrides), Layout(out)
    with led(given, layout=layout, resume=resume) as ranks:
        if ranks is None:
            return

        def walk(loaded: LoadedRecipe) -> tuple[Trained, Findings]:
            with trained(loaded, layout=layout, resume=resume, ranks=ranks) as done:
                return done, evaluate_run(done.walk, done.plan, done.model)

        if isinstance(given, Sweep):
            sweep.walk_all(given, walk, layout=layout, resume=resume, as_json=json)
            return
        (here, plan, model), (evaluation, spoken, task) = walk(given)
    run_dir, report = here.run_dir, here.run_dir / "report.html"

    def show(console: Console) -> None:
        show_spoken(console, spoken)
        if evaluation is not None:
            show_evaluation(console, evaluation)
        if task is not None:
            show_task(console, task)
        console.print(f"\nlook at it    {report}", soft_wrap=True)
        writes = plan.train.spec.head is None
        for what, verb in ((("talk to it", "chat"),) if writes else ()) + (("serve it", "serve"),):
            console.print(f"{what:<13} {program()} {verb} {run_dir}", soft_wrap=True)

    result = {
        "plan": plan.hash,
        "run": str(run_dir),
        "model": str(model),
        "report": str(report),
        "evaluation": None if evaluation is None else evaluation.as_json(),
        "task": None if task is None else task.as_json(),
    }
    give(result, as_json=json, show=show)
    check_gate(evaluation, task)
