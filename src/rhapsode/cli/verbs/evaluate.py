"""`rhapsode evaluate`: how good a model is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.console import Console

from rhapsode.cli import options
from rhapsode.cli.console import give

if TYPE_CHECKING:
    from rhapsode.recipe.load import LoadedRecipe


def evaluate(
    recipe: options.Recipe,
    /,
    *,
    model: Annotated[
        Path | None,
        Parameter(name="--model", help="A model directory or name; without it, the newest of the recipe's run."),
    ] = None,
    before: Annotated[
        Path | None,
        Parameter(name="--before", help="The model to compare answers with; without it, the recipe's base."),
    ] = None,
    overrides: options.Overrides = (),
    out: options.Out = options.OUT,
    json: options.Json = False,
) -> None:
    """Measure a model on what the recipe holds out, beside baselines, and judge its answers where scorers are named."""
    from rhapsode.cli.models import find_model
    from rhapsode.cli.progress import watched
    from rhapsode.cli.tables import show_evaluation, show_task
    from rhapsode.recipe.compare import Sides, compare_models
    from rhapsode.recipe.layout import Layout
    from rhapsode.recipe.load import load_recipe
    from rhapsode.recipe.run import check_gate
    from rhapsode.weights.names import model_name

    loaded, layout = load_recipe(recipe, overrides), Layout(out)
    directory = find_model(model or layout.runs / loaded.recipe.task.name)
    other = _base(loaded, of=directory) if before is None else find_model(before)
    _require_use(loaded, before)
    beside = [] if other is None else ["beside", model_name(other)]
    with watched() as events:
        found = compare_models(
            loaded,
            Sides(directory, other, is_own=model is None),
            name="-".join([loaded.recipe.task.name, "of", model_name(directory), *beside]),
            layout=layout,
            events=events,
        )

    def show(console: Console) -> None:
        if found.evaluation is not None:
            show_evaluation(console, found.evaluation)
        if found.task is not None:
            show_task(console, found.task)
        console.print(f"\nlook at it    {found.path / 'report.html'}", soft_wrap=True)

    result = {
        "model": str(directory),
        "before": None if other is None else str(other),
        "report": str(found.path / "report.html"),
        "evaluation": None if found.evaluation is None else found.evaluation.as_json(),
        "task": None if found.task is None else found.task.as_json(),
    }
    give(result, as_json=json, show=show)
    check_gate(found.evaluation, found.task)


def _base(loaded: LoadedRecipe, *, of: Path) -> Path | None:
    """The model that the recipe starts from, unless nobody asks for it, or it is what is measured."""
    config = loaded.recipe.evaluate
    if loaded.base is None or config.task is None or "base" not in config.baselines:
        return None
    return None if loaded.base.directory.samefile(of) else loaded.base.directory


def _require_use(loaded: LoadedRecipe, before: Path | None) -> None:
    """Raises: RecipeError: a model to compare answers with is named, and no answers are asked for."""
    from rhapsode.core.errors import RecipeError

    if before is not None and loaded.recipe.evaluate.task is None:
        raise RecipeError("--before compares answers, and the recipe asks for none", "name evaluate.task.scorers")
