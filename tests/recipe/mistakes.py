"""A recipe in a folder of its own, and what is said of one that is wrong."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from rhapsode.core.errors import RecipeError


def written(folder: Path, text: str) -> Path:
    """`mine.yaml` with this text, beside an empty folder of texts."""
    (folder / "texts").mkdir()
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def message_of(load: Callable[[Path, Sequence[str]], object], path: Path, *overrides: str) -> str:
    """What `load` says of the recipe, with paths as they are beside it."""
    with pytest.raises(RecipeError) as error:
        load(path, overrides)
    assert error.value.exit_code == 2
    return error.value.message.replace(f"{path.parent}/", "")
