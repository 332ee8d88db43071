"""`rhapsode models`: the catalogue, what fits this machine, and how a model comes here or goes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, Parameter

from rhapsode.cli import options
from rhapsode.cli.console import give

if TYPE_CHECKING:
    from rhapsode.catalogue.fit import Fit

app = App(
    name="models",
    help="Open models: what fits this machine, and how to get it.",
    help_epilogue="",
)

Name = Annotated[str, Parameter(help="The name of a model, as `rhapsode models` lists it.")]


@app.default
def listing(
    *,
    task: Annotated[
        str | None,
        Parameter(name="--task", help='What the model is for, such as "support chat".', show_default=False),
    ] = None,
    json: options.Json = False,
) -> None:
    """List the models of the catalogue with what they need on this machine, and recommend one for a task."""
    from rhapsode.catalogue.models import CATALOGUE
    from rhapsode.catalogue.recommend import find_task, recommend
    from rhapsode.catalogue.store import installed
    from rhapsode.cli.catalogue import as_json, show_list, show_recommendation

    wanted = None if task is None else find_task(task)
    fits, here = _fits(), {model.name: model for model in installed()}
    advice = None if wanted is None else recommend(wanted, fits)
    result: dict[str, Any] = {
        "models": [as_json(entry, fits[entry.name], is_here=entry.name in here) for entry in CATALOGUE.values()],
        "here": [{"name": model.name, "path": str(model.path), **model.manifest.facts} for model in here.values()],
    }
    if advice is None:
        give(result, as_json=json, show=lambda console: show_list(console, fits, here))
        return
    result["recommendation"] = {
        "task": advice.task,
        "name": advice.entry.name if advice.entry else None,
        "because": advice.because,
    }
    give(result, as_json=json, show=lambda console: show_recommendation(console, advice, fits, here))


@app.command
def pull(
    source: Annotated[
        str,
        Parameter(help="A name of the catalogue, a hub's ORG/REPO[@REVISION], a model directory or a .gguf file."),
    ],
    /,
    *,
    name: Annotated[
        str | None, Parameter(name="--name", help="What to call it here; its own name if unset.", show_default=False)
    ] = None,
    accept: Annotated[
        tuple[str, ...],
        Parameter(
            name="--accept",
            help="Accept the licence of this name, such as gemma. May be repeated.",
            negative="",
            show_default=False,
            metavar="LICENCE",
        ),
    ] = (),
    json: options.Json = False,
) -> None:
    """Fetch a model, check it, convert it if it must be, and keep it with its licence and its evidence."""
    from rhapsode.cli.catalogue import show_pulled
    from rhapsode.cli.models import pull_model

    pulled = pull_model(source, name=name, accept=accept, can_ask=not json)
    result = {**pulled._asdict(), "path": str(pulled.path)}
    give(result, as_json=json, show=lambda console: show_pulled(console, pulled))


@app.command
def show(model: Name, /, *, json: options.Json = False) -> None:
    """Everything that is known of one model, and what it needs on this machine."""
    from rhapsode.catalogue.models import CATALOGUE
    from rhapsode.catalogue.pull import unknown
    from rhapsode.catalogue.store import find
    from rhapsode.cli.catalogue import as_json, show_entry, show_installed

    path, entry = find(model), CATALOGUE.get(model)
    if entry is not None:
        fit = _fits()[model]
        result = {**as_json(entry, fit, is_here=path is not None), "path": str(path) if path else None}
        give(result, as_json=json, show=lambda console: show_entry(console, entry, fit, path))
    elif path is not None:
        from rhapsode.core.manifest import read_manifest

        facts = read_manifest(path).facts
        give(
            {"name": model, "path": str(path), **facts},
            as_json=json,
            show=lambda console: show_installed(console, model, path, facts),
        )
    else:
        raise unknown(model)


@app.command(name="rm")
def remove(model: Name, /, *, json: options.Json = False) -> None:
    """Remove a model that was pulled."""
    from rhapsode.catalogue.store import remove as remove_model

    path = remove_model(model)
    give({"removed": str(path)}, as_json=json, show=lambda console: console.print(f"removed {path}", soft_wrap=True))


def _fits() -> dict[str, Fit]:
    """What every model of the catalogue needs here; measures the machine once if nobody has."""
    from rhapsode.catalogue.figures import figures_of
    from rhapsode.catalogue.fit import fit
    from rhapsode.catalogue.models import CATALOGUE
    from rhapsode.catalogue.store import models_dir
    from rhapsode.cli.progress import watched
    from rhapsode.core.machine import examine

    machine = examine(models_dir())
    with watched() as events:
        figures = figures_of(machine, events=events)
    return {name: fit(entry.spec, machine=machine, figures=figures) for name, entry in CATALOGUE.items()}
