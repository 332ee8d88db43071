"""JSON objects in files that anyone may have written: bounded before they are parsed, and no key is given twice."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rhapsode.core.errors import RhapsodeError

MOST_BYTES = 4 << 20
MOST_MARKS = 1 << 18
"""Commas, colons and opening brackets: what parsing costs is counted in these, up to 200 bytes of memory for each."""


def parse_object(data: bytes, *, where: str) -> dict[str, Any]:
    """The object that `data` spells.

    Args:
        where: what the data is, to begin a message with.

    Raises:
        RhapsodeError: it is too large, it is not JSON, it is no object, or a key stands in it twice.
    """
    if len(data) > MOST_BYTES or sum(map(data.count, (b",", b":", b"[", b"{"))) > MOST_MARKS:
        raise RhapsodeError(f"{where} is larger than any model needs: {len(data):,} bytes", "the file is not genuine")
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise RhapsodeError(f"{where} is damaged: {error}", "get the file again") from None
    if not isinstance(value, dict):
        raise RhapsodeError(f"{where} is damaged: it is not a JSON object", "get the file again")
    return value


def read_object(path: Path, *, most: int = MOST_BYTES) -> dict[str, Any]:
    """The object in a file of at most `most` bytes. Raises as `parse_object`, and where the file cannot be read."""
    return parse_object(read_bytes(path, most=most), where=str(path))


def read_bytes(path: Path, *, most: int = MOST_BYTES) -> bytes:
    """A small file, whole.

    Raises:
        RhapsodeError: it is missing, cannot be read, is no ordinary file, or is larger than `most`.
    """
    try:
        if path.exists() and not path.is_file():  # to open a pipe would be to wait for its writer
            raise RhapsodeError(f"{path} is not an ordinary file", "get the file again")
        with path.open("rb") as file:
            data = file.read(most + 1)
    except FileNotFoundError:
        raise RhapsodeError(
            f"{path} is missing", "name a model directory, for example out/runs/NAME/step-000200"
        ) from None
    except OSError as error:
        raise RhapsodeError(f"{path}: {error.strerror}", "check the path and its permissions") from None
    if len(data) > most:
        raise RhapsodeError(f"{path} is larger than any model needs: over {most:,} bytes", "the file is not genuine")
    return data


def write_object(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="ascii")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        [(twice, _)] = Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"{twice[:100]!r} stands in it twice")
    return value
