"""Which model directory a person means by a path: itself, or the newest one of the run that lies there."""

from pathlib import Path

from rhapsode.core.errors import RhapsodeError
from rhapsode.core.manifest import is_complete
from rhapsode.weights.json_file import read_object
from rhapsode.weights.names import ADAPTER, MERGED, checkpoints


def model_at(path: Path) -> Path | None:
    """The model that lies at `path`, if one does.

    Raises:
        RhapsodeError: a model lies there that nobody has checked and pulled yet, or an adapter that is not merged.
    """
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
