"""Which model a person means by a path."""

from pathlib import Path

from rhapsode.core.errors import RhapsodeError
from rhapsode.weights.checkpoint import STEP, checkpoints


def find_model(path: Path) -> Path:
    """The model directory at `path`; for a run's directory, its newest model.

    Raises:
        RhapsodeError: there is no model.
    """
    if (path / "config.json").is_file():
        return path
    if found := checkpoints(path):
        return found[-1]
    what = "holds no model" if path.exists() else "does not exist"
    raise RhapsodeError(f"{path} {what}", "name a model directory (it has a config.json), or a run that has saved one")


def model_name(directory: Path) -> str:
    """What a model is called: by its run if it is a checkpoint of one, else by its directory."""
    directory = directory.resolve()
    return directory.parent.name if STEP.fullmatch(directory.name) else directory.name
