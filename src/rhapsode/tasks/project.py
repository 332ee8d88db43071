"""A folder to begin in: recipe, rows, a page that explains them, and what version control is to leave out.

Everything is made in memory and written beside the folder first; the recipe is moved in last, so that a folder with a
recipe has all that the recipe names.
"""

import json
import os
import re
import shutil
from pathlib import Path
from typing import NamedTuple

from rhapsode.catalogue.models import CATALOGUE
from rhapsode.catalogue.pull import unknown
from rhapsode.catalogue.store import find
from rhapsode.core.errors import RhapsodeError
from rhapsode.core.manifest import remove_orphans
from rhapsode.tasks.pack import Pack
from rhapsode.tasks.readme import readme_text
from rhapsode.tasks.recipe import ROWS, recipe_text
from rhapsode.tasks.rows import rows_of

BASE = "gemma-3-270m"
RECIPE = "recipe.yaml"
_IGNORED = "/out/\n"


class Base(NamedTuple):
    """What the recipe calls the model to start from, and whether it is here."""

    name: str
    is_here: bool


class Project(NamedTuple):
    """What was made. `files` are relative to the directory."""

    directory: Path
    base: Base
    files: tuple[str, ...]
    num_rows: int


def new_project(pack: Pack, directory: Path, *, base: str = BASE) -> Project:
    """Make a project of this kind in a folder that is empty or not there yet.

    Args:
        base: a name of the catalogue, of a pulled model, or the path of a model directory.

    Raises:
        RhapsodeError: the folder holds something, the model is not known, or the disk is full. Nothing half-written is
            left behind.
    """
    _refuse_what_is_there(directory)
    model, rows = find_base(base), rows_of(pack)
    files = {
        ".gitignore": _IGNORED,
        "README.md": readme_text(pack, base=model.name, rows=rows),
        ROWS: "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows),
        RECIPE: recipe_text(pack, base=model.name),
    }
    _write(files, directory)
    return Project(directory, model, tuple(files), len(rows))


def find_base(name: str) -> Base:
    """The model that is meant.

    Raises:
        RhapsodeError: nobody knows it.
    """
    path = Path(name).expanduser()
    if (path / "config.json").is_file():
        return Base(str(path.absolute()), is_here=True)
    if find(name) is not None:
        return Base(name, is_here=True)
    if name in CATALOGUE:
        return Base(name, is_here=False)
    if path.exists():
        raise RhapsodeError(f"{path} holds no model", "name a model directory: it has a config.json")
    raise unknown(name)


def _refuse_what_is_there(directory: Path) -> None:
    if directory.is_dir():
        there = sorted(path.name for path in directory.iterdir())
        if there:
            named = ", ".join(there[:3]) + (", ..." if len(there) > 3 else "")
            raise RhapsodeError(f"{directory} is not empty: {named}", "name another folder, which may be a new one")
    elif directory.exists() or directory.is_symlink():
        raise RhapsodeError(f"{directory} is no folder", "name another, which may be a new one")


def _write(files: dict[str, str], directory: Path) -> None:
    """All of them, or none; the last is there only when all others are."""
    place = Path(os.path.abspath(directory))  # noqa: PTH100 - "." has a name and a parent then
    work = place.parent / f".{place.name}.{os.getpid()}.partial"
    was_there, moved = place.exists(), list[Path]()
    try:
        remove_orphans(place.parent, name=re.escape(place.name))
        for name, text in files.items():
            (work / name).parent.mkdir(parents=True, exist_ok=True)
            (work / name).write_text(text, encoding="utf-8")
        place.mkdir(exist_ok=True)
        for name in dict.fromkeys(Path(name).parts[0] for name in files):
            moved.append(place / name)
            (work / name).rename(place / name)
    except BaseException as error:
        for path in moved:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        if not was_there and place.is_dir():
            place.rmdir()
        if isinstance(error, OSError):
            what = f"{directory} could not be made: {error.strerror or error}"
            raise RhapsodeError(what, "make room or correct the permissions, or name another folder") from error
        raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
