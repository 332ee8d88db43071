"""Where pulled models lie: one complete model directory for each name, below the home."""

import contextlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from rhapsode.core.errors import RecipeError, RhapsodeError
from rhapsode.core.home import home
from rhapsode.core.lock import locked
from rhapsode.core.manifest import Manifest, is_complete, read_manifest

KIND = "model"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}")


class Installed(NamedTuple):
    """A model that is here."""

    name: str
    path: Path
    manifest: Manifest


def models_dir() -> Path:
    """The folder of pulled models. It need not exist."""
    return home() / "models"


def is_name(text: str) -> bool:
    """Whether a model may be called so: one plain word, never a path out of the store."""
    return _NAME.fullmatch(text) is not None


def check_name(text: str) -> str:
    """`text` again.

    Raises:
        RecipeError: it cannot be a model's name.
    """
    if not is_name(text):
        raise RecipeError(
            f"{text!r} cannot be the name of a model", "use letters, digits, points, dashes and underscores"
        )
    return text


def find(name: str) -> Path | None:
    """The directory of a pulled model, by its name or by the hub's repository that it came from."""
    if is_name(name):
        path = models_dir() / name
        return path if is_complete(path) else None
    return next((model.path for model in installed() if model.manifest.facts.get("source") == f"hub:{name}"), None)


def installed() -> list[Installed]:
    """Every complete model, by name."""
    folder = models_dir()
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    return [Installed(p.name, p, read_manifest(p)) for p in paths if is_name(p.name) and is_complete(p)]


def remove(name: str) -> Path:
    """Remove a pulled model: it leaves the store in one step, and its bytes after that.

    Raises:
        RhapsodeError: there is no such model.
    """
    path = models_dir() / check_name(name)
    if not is_complete(path):
        raise RhapsodeError(f"{name} is not here", "`rhapsode models` marks the models that are")
    gone = path.with_name(f".{name}.removed")
    shutil.rmtree(gone, ignore_errors=True)
    path.rename(gone)
    shutil.rmtree(gone)
    return path


@contextlib.contextmanager
def working(key: str) -> Iterator[Path]:
    """A folder for what is fetched, which outlives an interruption, and is held against other processes.

    Raises:
        RhapsodeError: another process fetches the same, or the folder cannot be made.
    """
    folder = home() / "downloads" / re.sub(r"[^A-Za-z0-9._-]", "-", key).lstrip(".")
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(folder))
        except RhapsodeError as error:
            raise RhapsodeError(error.message, "another process fetches this model; wait for it to end") from None
        except OSError as error:
            raise RhapsodeError(
                f"{folder}: {error.strerror}", "set RHAPSODE_HOME to a folder that can be written"
            ) from error
        yield folder
