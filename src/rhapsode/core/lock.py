"""One process at a time in a directory."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from rhapsode.core.errors import RhapsodeError

LOCK = ".lock"
TRIES, PAUSE = 5, 0.05
"""Whoever asks `owner` holds the lock for a moment, which must not refuse another process."""


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold `directory` until the block ends; the system lets go when the process dies, however it dies.

    Raises:
        RhapsodeError: another process holds it; the message names its number.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / LOCK).open("a+", encoding="utf-8") as file:
        if not _take(file):
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise RhapsodeError(
                f"{directory} is in use by process {holder}", "wait for it to end, or give this run another task.name"
            )
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def owner(directory: Path) -> str | None:
    """The number of the process that holds `directory`, "unknown" if it has not said it yet; None if nobody does."""
    try:
        with (directory / LOCK).open(encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return file.read().strip() or "unknown"
    except FileNotFoundError:
        pass
    return None


def _take(file: TextIO) -> bool:
    for _ in range(TRIES):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(PAUSE)
        else:
            return True
    return False
