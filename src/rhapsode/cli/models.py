"""Which model a person means by a path or a name, and fetching it where it is not here yet."""

import sys
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from rhapsode.core.errors import RhapsodeError

if TYPE_CHECKING:
    from rhapsode.catalogue.licences import Terms
    from rhapsode.catalogue.pull import Pulled

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
    from rhapsode.weights.model_at import model_at

    if (found := model_at(path)) is not None:
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
