"""Which model a person means by a path or a name, and fetching it where it is not here yet."""

import sys
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from rhapsode.core.errors import RhapsodeError
from rhapsode.core.manifest import is_complete

if TYPE_CHECKING:
    from rhapsode.catalogue.licences import Terms
    from rhapsode.catalogue.pull import Pulled

ADAPTER = "adapter_config.json"
NAME_A_MODEL = "name a model directory (it has a config.json), or a run that has saved one"


def find_model(path: Path) -> Path:
    """The model directory at `path`; for a run's directory, its newest model; for a name, the pulled model.

    A name of the catalogue that is not here yet is pulled, with progress.

    Raises:
        RhapsodeError: there is no model, or it must be pulled first: the hint is the command.
    """
    from rhapsode.catalogue.fetch.hub import REPOSITORY
    from rhapsode.catalogue.models import CATALOGUE
    from rhapsode.catalogue.pull import unknown
    from rhapsode.catalogue.store import find

    if (found := _at(path)) is not None:
        return found
    name = str(path)
    if (found := find(name)) is not None:
        return found
    entry = CATALOGUE.get(name) or next((entry for entry in CATALOGUE.values() if entry.repo == name), None)
    if entry is not None:
        return find(entry.name) or pull_model(entry.name).path
    if path.exists():
        raise RhapsodeError(f"{path} holds no model", NAME_A_MODEL)
    error = unknown(name)
    if REPOSITORY.fullmatch(name):
        raise RhapsodeError(f"{name} is not here", f"if it is a hub's model: rhapsode models pull {name}")
    raise RhapsodeError(error.message, f"{error.hint}; or {NAME_A_MODEL}")


def pull_model(what: str, *, name: str | None = None, accept: Collection[str] = (), can_ask: bool = True) -> "Pulled":
    """Pull a model with progress; a person at a terminal is asked for a licence that nobody accepted yet."""
    from rhapsode.catalogue.licences import NotAccepted, record
    from rhapsode.catalogue.pull import pull
    from rhapsode.cli.progress import watched

    try:
        with watched() as events:
            return pull(what, name=name, accept=accept, events=events)
    except NotAccepted as refusal:
        if not (can_ask and sys.stdin.isatty() and sys.stderr.isatty() and ask_person(refusal.terms)):
            raise
        record(refusal.terms)
    with watched() as events:
        return pull(what, name=name, accept=accept, events=events)


def ask_person(terms: "Terms") -> bool:
    """Ask at the terminal, where the name must be typed: nobody accepts by pressing a key too many."""
    sys.stderr.write(f"Type {terms.licence.id} to accept this licence: ")
    sys.stderr.flush()
    try:
        return sys.stdin.readline().strip().casefold() == terms.licence.id.casefold()
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        raise


def _at(path: Path) -> Path | None:
    """The model that lies at `path`, if one does.

    Raises:
        RhapsodeError: a model lies there that nobody has checked and pulled yet, or an adapter that is not merged.
    """
    from rhapsode.weights.checkpoint import checkpoints
    from rhapsode.weights.names import MERGED

    if path.suffix == ".gguf" and path.is_file():
        raise _must_be_pulled(path, "is a GGUF file")
    if (path / "config.json").is_file():
        if not is_complete(path):
            raise _must_be_pulled(path, "is a model directory without manifest.json: it was never checked")
        return path
    if is_complete(path / MERGED):
        return path / MERGED
    found = checkpoints(path)
    for newest in (path, *found[-1:]):
        if (newest / ADAPTER).is_file():
            raise _must_be_merged(newest)
    return found[-1] if found else None


def _must_be_merged(adapter: Path) -> RhapsodeError:
    """The error for a run that has adapters and no model: it is under way, was stopped, or merging was refused."""
    from rhapsode.weights.json_file import read_object

    base = read_object(adapter / ADAPTER).get("base_model_name_or_path")
    recipe, other = adapter.parent / "recipe.yaml", ""
    if base and Path(str(base)).is_dir():
        other = f"; what it was trained on answers without it: {base}"
    again = f"`rhapsode run {recipe} --resume` ends the run and merges it" if recipe.is_file() else "merge it"
    return RhapsodeError(
        f"{adapter} is an adapter, which is not merged into its base yet, so there is no model to use",
        f"{again}; until then peft can load {adapter} upon its base{other}",
    )


def _must_be_pulled(path: Path, what: str) -> RhapsodeError:
    return RhapsodeError(f"{path} {what}", f"rhapsode models pull {path}")
