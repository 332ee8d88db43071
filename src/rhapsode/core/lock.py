"""One process at a time in a directory."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from rhapsode.core.errors import RhapsodeError

LOCK = ".lock"


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold `directory` until the block ends; the system lets go when the process dies, however it dies.

    Raises:
        RhapsodeError: another process holds it; the message names its number.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / LOCK).open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            owner = file.read().strip() or "unknown"
            raise RhapsodeError(
                f"{directory} is in use by process {owner}", "wait for it to end, or give this run another task.name"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
