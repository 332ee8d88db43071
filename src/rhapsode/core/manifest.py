"""Directories that carry their own evidence.

Every stage writes a directory through `writing`: into a hidden sibling first, every file hashed, `manifest.json` last,
then one atomic rename. So a directory without a manifest is incomplete and is never read, and a reader can prove
that what lies there is what was written. A manifest holds no times: equal inputs give an equal `digest`.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from rhapsode import __version__
from rhapsode.core.errors import RhapsodeError, VerificationMismatch

MANIFEST = "manifest.json"


class Manifest(NamedTuple):
    """What a directory is, what is in it, and what it was made from."""

    kind: str
    files: dict[str, str]
    inputs: dict[str, str]
    recipe: dict[str, Any]
    facts: dict[str, Any]
    code: str


@dataclass
class Writing:
    """A directory being written. `facts` may be added to until the end."""

    path: Path
    facts: dict[str, Any] = field(default_factory=dict)


@contextlib.contextmanager
def writing(
    path: Path,
    *,
    kind: str,
    inputs: Mapping[str, str] | None = None,
    recipe: Mapping[str, Any] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Iterator[Writing]:
    """Write the directory `path` completely or not at all.

    Args:
        path: the final place. Something complete of the same kind there is replaced.
        kind: what the directory is, for example "corpus".
        inputs: name -> digest of everything it is made from.
        recipe: the part of the recipe that shaped it.
        facts: small results worth finding without opening a file.

    Raises:
        RhapsodeError: the disk is full or the place cannot be written. Nothing is left behind.
    """
    temporary = path.parent / f".{path.name}.{os.getpid()}.partial"
    try:
        remove_orphans(path.parent, name=re.escape(path.name))
        temporary.mkdir(parents=True)
        work = Writing(temporary, dict(facts or {}))
        yield work
        files = {str(f.relative_to(temporary)): file_sha256(f) for f in _files(temporary)}
        manifest = Manifest(kind, files, dict(inputs or {}), dict(recipe or {}), work.facts, __version__)
        (temporary / MANIFEST).write_text(json.dumps(manifest._asdict(), indent=1, sort_keys=True) + "\n")
        _sync(temporary)
        _replace(temporary, path)
    except OSError as error:
        _remove(temporary)
        raise explain_os_error(error, path) from error
    except BaseException:
        _remove(temporary)
        raise


def read_manifest(path: Path, *, kind: str | None = None) -> Manifest:
    """The manifest of a complete directory.

    Raises:
        RhapsodeError: there is none, it is damaged, or the directory is of another kind.
    """
    file = path / MANIFEST
    try:
        manifest = Manifest(**json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError:
        what = "is incomplete: it has no manifest.json" if path.is_dir() else "does not exist"
        raise RhapsodeError(f"{path} {what}", "remove it and run the step that makes it again") from None
    except (ValueError, TypeError) as error:
        raise VerificationMismatch(f"{file} is damaged: {error}", "restore it, or make the directory again") from None
    if kind is not None and manifest.kind != kind:
        raise RhapsodeError(f"{path} holds a {manifest.kind}, not a {kind}", "name another directory")
    return manifest


def is_complete(path: Path) -> bool:
    return (path / MANIFEST).is_file()


def verify(path: Path) -> Manifest:
    """Hash every file again.

    Raises:
        VerificationMismatch: a file is missing or its bytes have changed; the message names it.
    """
    manifest = read_manifest(path)
    for name, expected in manifest.files.items():
        file = path / name
        if not file.is_file():
            raise VerificationMismatch(f"{file} is missing", "restore it, or make the directory again")
        if file_sha256(file) != expected:
            raise VerificationMismatch(
                f"{file} has changed since it was written: its sha256 is not {expected[:16]}...",
                "restore it, or make the directory again",
            )
    return manifest


def digest(path: Path) -> str:
    """The identity of a complete directory: the sha256 of its manifest, 64 hex digits."""
    read_manifest(path)
    return file_sha256(path / MANIFEST)


def num_bytes(directory: Path) -> int:
    """Of all files below it."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def value_sha256(value: Any) -> str:
    """The sha256 of a JSON value, independent of the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def remove_orphans(parent: Path, *, name: str) -> None:
    """Remove what killed processes left half-written or half-removed; `name` is a pattern of directory names.

    One that was killed between moving the old directory aside and putting the new one in place loses nothing: the old
    one goes back.
    """
    pattern = re.compile(rf"\.({name})\.(\d+)\.(partial|old)")
    for left in sorted(parent.iterdir()) if parent.is_dir() else ():
        match = pattern.fullmatch(left.name)
        if match is None or (int(match[2]) != os.getpid() and _is_alive(int(match[2]))):
            continue
        if match[3] == "old" and is_complete(left) and not (parent / match[1]).exists():
            left.rename(parent / match[1])
        else:
            _remove(left)


def explain_os_error(error: OSError, path: Path) -> RhapsodeError:
    """The user's view of an operating system error while writing `path`."""
    if error.errno == errno.ENOSPC:
        free = shutil.disk_usage(_existing(path)).free
        return RhapsodeError(
            f"the disk is full: {path} could not be written ({free / 1e6:.1f} MB free); nothing was left half-written",
            "free some space, or write elsewhere with --out",
        )
    where = error.filename or path
    return RhapsodeError(f"{where}: {error.strerror or error}", "check the path and its permissions")


def _existing(path: Path) -> Path:
    return next(p for p in (path, *path.absolute().parents) if p.exists())


def _files(path: Path) -> list[Path]:
    return sorted(f for f in path.rglob("*") if f.is_file())


def _sync(path: Path) -> None:
    """fsync files before the rename: after a power cut a manifest never names bytes that are not there."""
    for entry in [*_files(path), *sorted(d for d in path.rglob("*") if d.is_dir()), path]:
        handle = os.open(entry, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _replace(temporary: Path, path: Path) -> None:
    """Put the new directory in place; an old one moves aside first, so neither is ever half there."""
    if path.exists():
        old = path.parent / f".{path.name}.{os.getpid()}.old"
        _remove(old)
        path.rename(old)
        temporary.rename(path)
        _remove(old)
    else:
        temporary.rename(path)
    handle = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _remove(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
