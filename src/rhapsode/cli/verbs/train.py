"""`rhapsode train`: a corpus to a model."""

from rhapsode.cli import options
from rhapsode.cli.console import give
from rhapsode.core.errors import RecipeError


def train(
    recipe: options.Recipe,
    /,
    *,
    overrides: options.Overrides = (),
    out: options.Out = options.OUT,
    resume: options.Resume = False,
    watch: options.Watch = False,
    launch: options.Launch = None,
    submit: options.Submit = False,
    json: options.Json = False,
) -> None:
    """Train exactly what `plan` showed, and leave a model directory; of a sweep, one for each run."""
    if watch:
        from rhapsode.cli import watch as watching

        run_dir = watching.find_run(recipe, overrides, out=out)
        state = watching.watch(run_dir)
        give({"run": str(run_dir), "state": state}, as_json=json, show=lambda _: None)
        return
    if launch is not None:
        from rhapsode.cli import launching

        launching.launch(recipe, to=launch, overrides=overrides, out=out, resume=resume, hand_over=submit, as_json=json)
        return
    if submit:
        raise RecipeError("--submit is for a job", "add --launch slurm, kubernetes or skypilot")
    from rhapsode.cli import sweep
    from rhapsode.cli.training import Trained, led, trained
    from rhapsode.recipe.layout import Layout
    from rhapsode.recipe.load import LoadedRecipe
    from rhapsode.recipe.sweep.members import Sweep, load_runs

    given, layout = load_runs(recipe, overrides), Layout(out)
    with led(given, layout=layout, resume=resume, must_match=True) as ranks:
        if ranks is None:
            return

        def walk(loaded: LoadedRecipe) -> Trained:
            with trained(loaded, layout=layout, resume=resume, must_match=True, ranks=ranks) as done:
                return done

        if isinstance(given, Sweep):
            sweep.walk_all(given, walk, layout=layout, resume=resume, must_match=True, as_json=json)
            return
        run, plan, model = walk(given)
    result = {"plan": plan.hash, "run": str(run.run_dir), "model": str(model)}
    give(result, as_json=json, show=lambda console: console.print(f"model  {model}", soft_wrap=True))
