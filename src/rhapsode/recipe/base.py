"""Weights to start from: the model directory that a recipe names, and what is known of it. Free of torch."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rhapsode.catalogue.models import CATALOGUE
from rhapsode.catalogue.store import KIND, find
from rhapsode.core.errors import RhapsodeError
from rhapsode.core.manifest import digest, read_manifest
from rhapsode.model.families.registry import spec_from_config
from rhapsode.model.spec import ModelSpec
from rhapsode.weights.json_file import read_object
from rhapsode.weights.model_at import model_at
from rhapsode.weights.names import model_name
from rhapsode.weights.sentence_files import with_pooling

PAPERS = ("LICENSE*", "LICENCE*", "COPYING*", "NOTICE*", "USE_POLICY*", "*TERMS*")
"""What a publisher asks to be passed on with every copy, and with what is made from it."""
PULL = "rhapsode models pull"


class Base(NamedTuple):
    """A complete model that training starts from.

    Attributes:
        reference: what finds it again from any folder: a pulled model's name, or an absolute path.
        title: what model cards call it: the hub's repository where it has one.
        licence: as its manifest names it.
        papers: the files that its licence asks to be passed on.
        facts: what its manifest tells.
        sha256: of its manifest, and so of all its bytes.
    """

    reference: str
    directory: Path
    title: str
    licence: str
    papers: tuple[Path, ...]
    facts: Mapping[str, Any]
    sha256: str
    spec: ModelSpec


def find_base(name: str, *, beside: Path) -> Base:
    """The model called `name`, or the one at that path, or of the run there; it starts from the folder `beside`.

    Raises:
        RhapsodeError: there is none, it was never checked or merged, or its architecture is not known.
        VerificationMismatch: its manifest is damaged.
    """
    path = beside / Path(name).expanduser()
    at_path = model_at(path)
    directory = at_path or find(name)
    if directory is None:
        raise _nowhere(name, path)
    facts = read_manifest(directory, kind=KIND).facts
    return Base(
        reference=str(directory.absolute()) if at_path else name,
        directory=directory,
        title=_title(model_name(directory) if at_path else name, source=str(facts.get("source", ""))),
        licence=str(facts.get("licence", "unknown")),
        papers=tuple(sorted({path for pattern in PAPERS for path in directory.glob(pattern) if path.is_file()})),
        facts=facts,
        sha256=digest(directory),
        spec=_spec(directory),
    )


def _nowhere(name: str, path: Path) -> RhapsodeError:
    from rhapsode.catalogue.fetch.hub import REPOSITORY

    if path.is_dir():
        return RhapsodeError(
            f"{path} holds no model", "name a model directory, which has a config.json, or a run that has saved a model"
        )
    if path.exists():
        return RhapsodeError(f"{path} is no model directory", f"{PULL} {path}")
    if "/" in name and not REPOSITORY.fullmatch(name):
        return RhapsodeError(f"{path} is not there", "name a model directory, or a run's: out/runs/NAME")
    return RhapsodeError(f"{name} is not here", f"{PULL} {name}")


def _title(name: str, *, source: str) -> str:
    if source.startswith("hub:"):
        return source.removeprefix("hub:")
    return CATALOGUE[name].repo if name in CATALOGUE else name


def _spec(directory: Path) -> ModelSpec:
    try:
        return with_pooling(spec_from_config(read_object(directory / "config.json")), directory)
    except RhapsodeError as error:
        raise RhapsodeError(f"{directory}: {error.message}", error.hint) from None
