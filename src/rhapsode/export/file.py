"""One file, written completely and proven, or not at all."""

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from rhapsode.core.errors import RhapsodeError
from rhapsode.core.manifest import explain_os_error, remove_orphans


@contextlib.contextmanager
def writing_file(path: Path, *, magic: bytes) -> Iterator[Path]:
    """A place to write the file `path`; it gets its name when the block ends, and never if the block fails.

    Args:
        path: the final place. A file there is replaced if it begins with `magic`, so that no other kind is lost.
        magic: what files of this kind begin with.

    Raises:
        RhapsodeError: the disk is full, or the place cannot be written. Nothing is left behind.
    """
    # a folder for the one file: what a killed process left is found and removed as for every other directory
    folder = path.parent / f".{path.name}.{os.getpid()}.partial"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _check(path, magic)
        remove_orphans(path.parent, name=re.escape(path.name))
        folder.mkdir()
        yield folder / path.name
        _sync(folder / path.name)
        (folder / path.name).replace(path)
        folder.rmdir()
        _sync(path.parent)
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise explain_os_error(error, path) from error
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _check(path: Path, magic: bytes) -> None:
    if path.is_dir():
        raise RhapsodeError(f"{path} is a folder", "name a file that does not exist")
    if path.exists():
        with path.open("rb") as file:
            if file.read(len(magic)) != magic:
                raise RhapsodeError(f"{path} exists and is of another kind", "name another file with --out")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
