"""`rhapsode new`: a folder to begin in."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from rhapsode.cli import options
from rhapsode.cli.console import give


def new(
    kind: Annotated[str | None, Parameter(help="What the model is for; without it, all kinds are listed.")] = None,
    directory: Annotated[
        Path | None, Parameter(help="A folder that is empty or not there yet; the kind's name if unset.")
    ] = None,
    /,
    *,
    base: Annotated[
        str | None,
        Parameter(
            name="--base",
            help="The model to start from: a name of `rhapsode models` or a model directory; gemma-3-270m if unset.",
            show_default=False,
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Make a project for a task: a recipe with remarks, some hundred made-up rows, and a page that says what to do."""
    from rhapsode.cli.projects import kinds_as_json, show_kinds, show_project
    from rhapsode.core.errors import RecipeError
    from rhapsode.tasks.project import BASE, new_project
    from rhapsode.tasks.registry import pack_named, packs

    if kind is None:
        if base is not None:
            raise RecipeError("--base needs a kind of project", "`rhapsode new` lists them")
        known = packs()
        give({"kinds": kinds_as_json(known)}, as_json=json, show=lambda console: show_kinds(console, known))
        return
    pack = pack_named(kind)
    made = new_project(pack, directory or Path(pack.name), base=base or BASE)
    result = {
        "kind": pack.name,
        "directory": str(made.directory),
        "files": list(made.files),
        "rows": made.num_rows,
        "base": made.base.name,
        "base_is_here": made.base.is_here,
    }
    give(result, as_json=json, show=lambda console: show_project(console, made))
