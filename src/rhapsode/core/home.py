"""Where Rhapsode keeps what outlives a run: pulled models, accepted licences, figures of this machine."""

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HOME = "RHAPSODE_HOME"


def home() -> Path:
    """RHAPSODE_HOME, else a folder in the user's cache. It need not exist."""
    if place := os.environ.get(HOME):
        return Path(place).expanduser().absolute()
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache).expanduser().absolute() / "rhapsode"


def read_record(name: str) -> dict[str, Any]:
    """The JSON object that `home()/name` holds; empty if there is none or it is damaged: it can be made again."""
    try:
        value = json.loads((home() / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def write_record(name: str, value: Mapping[str, Any]) -> None:
    """Write `home()/name` completely or not at all.

    Raises:
        OSError: the folder cannot be written.
    """
    folder = home()
    folder.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=folder)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(value, file, indent=1, sort_keys=True, ensure_ascii=False)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(folder / name)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
