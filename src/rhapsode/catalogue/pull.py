"""Names to models: what lies here already, what the catalogue or a hub offers, and the way from one to the other."""

import contextlib
import difflib
import re
import shutil
import time
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from rhapsode.catalogue.entries import Entry
from rhapsode.catalogue.fetch.hub import REPOSITORY, Hub, cached_snapshot, is_offline
from rhapsode.catalogue.fetch.index import Index
from rhapsode.catalogue.fetch.local import Local, check_local
from rhapsode.catalogue.fetch.source import Source, check_room
from rhapsode.catalogue.install import Provenance, install
from rhapsode.catalogue.licences import Terms, is_accepted, require
from rhapsode.catalogue.models import CATALOGUE
from rhapsode.catalogue.store import check_name, find, installed, models_dir, working
from rhapsode.core.errors import RhapsodeError
from rhapsode.core.events import Events, stage
from rhapsode.core.manifest import MANIFEST, read_manifest

_WITH_REVISION = re.compile(rf"({REPOSITORY.pattern})(?:@(\S+))?")


class Pulled(NamedTuple):
    """A model of the store; `is_new` is false where it was there before."""

    name: str
    path: Path
    is_new: bool
    seconds: float


def pull(what: str, *, name: str | None = None, accept: Collection[str] = (), events: Events) -> Pulled:
    """Bring a model here: a name of the catalogue, a hub's ORG/REPO[@REVISION], a directory or a .gguf file.

    Args:
        accept: licences that the person who asks for it accepts, by name.

    Raises:
        NotAccepted: its licence must be accepted first.
        RhapsodeError: it is not known, not to be had, or damaged.
    """
    start = time.perf_counter()
    source = find_source(what)
    is_local = isinstance(source, Local)
    name = check_name(name or source.name)
    if (path := find(name)) is not None:
        _check_same(path, source.origin, name=name)
        return Pulled(name, path, is_new=False, seconds=0.0)
    with working(source.origin) as folder:
        terms = source.terms(folder)
        _tell(terms, events=events)
        if terms is not None and not is_local:
            require(terms, accept=accept)
        check_room(source.room(folder), place=models_dir())
        with contextlib.nullcontext() if is_local else stage("fetch", events):
            fetched = source.fetch(folder, events)
        entry = CATALOGUE.get(what) or _entry_of(source.origin.removeprefix("hub:"))
        kind = entry.kind if entry else None
        provenance = Provenance(source.origin, source.revision(), terms, source.papers(), kind)
        path = install(fetched, name=name, provenance=provenance, events=events)
        shutil.rmtree(folder, ignore_errors=True)
    return Pulled(name, path, is_new=True, seconds=time.perf_counter() - start)


def find_source(what: str) -> Source:
    """Where `what` is to be had; nothing is fetched yet.

    Raises:
        RhapsodeError: nobody knows it.
    """
    if (entry := CATALOGUE.get(what)) is not None:
        if entry.package is not None:
            return Index(entry)
        return _hub(entry.repo, None)
    path = Path(what).expanduser()
    if path.exists():
        check_local(path)
        if (path / MANIFEST).is_file():
            raise RhapsodeError(f"{path} is complete already", f"use it by its path: rhapsode chat {path}")
        return Local(path)
    if match := _WITH_REVISION.fullmatch(what):
        return _hub(match[1], match[2])
    raise unknown(what)


def unknown(what: str) -> RhapsodeError:
    """Nobody knows a model of this name; those that look like it may be meant."""
    names = {*CATALOGUE, *(model.name for model in installed())}
    close = difflib.get_close_matches(what.lower(), sorted(names), n=3, cutoff=0.6)
    advice = f"did you mean {' or '.join(close)}? " if close else ""
    return RhapsodeError(
        f"{what} is neither a path nor the name of a model",
        f"{advice}`rhapsode models` lists the names; a hub's model is ORG/REPO",
    )


def _entry_of(repo: str) -> Entry | None:
    return next((entry for entry in CATALOGUE.values() if entry.repo == repo), None)


def _hub(repo: str, revision: str | None) -> Source:
    entry = _entry_of(repo)
    if is_offline():
        snapshot = cached_snapshot(repo, revision=revision)
        return Local(snapshot, origin=f"hub:{repo}", commit=snapshot.name, entry=entry)
    return Hub(repo, revision=revision, entry=entry)


def _check_same(path: Path, origin: str, *, name: str) -> None:
    here = read_manifest(path).facts.get("source")
    if here != origin:
        raise RhapsodeError(
            f"a model called {name} is here already, from {here}",
            f"give this one another name with --name, or remove that one: rhapsode models rm {name}",
        )


def _tell(terms: Terms | None, *, events: Events) -> None:
    if terms is None:
        events.emit("warning", message="nothing is known of this model's licence: ask its publisher before use")
        return
    if is_accepted(terms):
        return
    licence = terms.licence
    events.emit("licence", name=licence.name, url=licence.url, asks=licence.asks, place=terms.place)
