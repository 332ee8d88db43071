"""The files of the sources, in one order everywhere, and what was passed over and why.

Names are sorted by their bytes, folders are walked without recursion, symbolic links to folders are not followed (they
are how a walk never ends) and nothing but a regular file is ever opened.
"""

import os
import re
import stat
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from rhapsode.core.errors import RhapsodeError
from rhapsode.corpus.config import Source
from rhapsode.corpus.globs import Globs
from rhapsode.corpus.readers.registry import PLAIN, Format, compression_of, format_of

UNKNOWN_FORMAT = "not a known text format"
NOT_REGULAR = "not a regular file"
BROKEN_LINK = "broken symbolic link"
FOLDER_LINK = "symbolic link to a folder"
HIDDEN = "hidden"
PACKAGES = "folder of installed packages or caches"
UNREADABLE_FOLDER = "folder cannot be read"

_PACKAGES = frozenset({"__pycache__", "node_modules", "site-packages", "dist-packages"})
_VARIABLE = re.compile(r"\$\{([^}]*)\}")


class InputFile(NamedTuple):
    """A file to read. `place` is its name inside its source, safe to print; `label` tells sources apart."""

    source: int
    label: str
    path: str
    place: str
    size: int
    format: Format
    compression: str


class Passed(NamedTuple):
    """Something that is not read, and why."""

    source: int
    label: str
    place: str
    reason: str
    detail: str


class Found(NamedTuple):
    """What there is. `labels` has one label a source."""

    files: list[InputFile]
    passed: list[Passed]
    labels: list[str]


def find(sources: list[Source], *, base: Path) -> Found:
    """Every file of every source.

    Raises:
        RhapsodeError: a path does not exist, or a source has no file that can be read.
    """
    paths = [expand(s.path, key=f"data.sources[{index}].path", base=base) for index, s in enumerate(sources)]
    labels = labels_of([source.name for source in sources], paths)
    found = Found([], [], labels)
    for index, (source, path) in enumerate(zip(sources, paths, strict=True)):
        before, passed_before = len(found.files), len(found.passed)
        for item in _entries(source, path, index, labels[index]):
            if isinstance(item, InputFile):
                found.files.append(item)
            else:
                found.passed.append(item)
        if len(found.files) == before:
            raise _nothing(path, index, found.passed[passed_before:])
    return found


def expand(text: str, *, key: str, base: Path) -> Path:
    """The path that a source means; `key` is where the recipe says it.

    Raises:
        RhapsodeError: there is nothing there, or a variable has no value.
    """

    def value(match: re.Match[str]) -> str:
        if match[1] == "stdlib":
            return sysconfig.get_paths()["stdlib"]
        if match[1] not in os.environ:
            raise RhapsodeError(
                f"{key}: the environment has no variable {match[1]!r}", f"set it: export {match[1]}=..."
            )
        return os.environ[match[1]]

    path = base / Path(_VARIABLE.sub(value, text)).expanduser()
    if not path.exists():
        what = "is a broken symbolic link" if path.is_symlink() else "does not exist"
        raise RhapsodeError(f"{key}: {path} {what}", "paths are relative to the recipe's folder; correct the path")
    return path


def printable(name: str) -> str:
    """A file name as one line of valid text: line feeds, control characters and bytes that are no text are escaped."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def labels_of(names: Sequence[str], paths: Sequence[Path]) -> list[str]:
    """A label for each source: its name or the end of its path, numbered where two are alike."""
    labels: list[str] = []
    for name, path in zip(names, paths, strict=True):
        label = name or printable(path.resolve().name) or "root"
        number = sum(label == other or other.startswith(f"{label}~") for other in labels)
        labels.append(f"{label}~{number + 1}" if number else label)
    return labels


def _entries(source: Source, path: Path, index: int, label: str) -> Iterator[InputFile | Passed]:
    globs = Globs(include=source.include, exclude=source.exclude)
    if not path.is_dir():
        yield _judge(str(path), path.name, index, label, is_named=True)
        return
    for file, name, reason in _walk(str(path)):
        if not globs.admit(name, is_folder=reason in (HIDDEN, PACKAGES, FOLDER_LINK, UNREADABLE_FOLDER)):
            continue
        yield Passed(index, label, printable(name), reason, "") if reason else _judge(file, name, index, label)


def _walk(root: str) -> Iterator[tuple[str, str, str]]:
    """Path, name inside the root, and the reason to pass it over ("" for what may be a file)."""
    stack = [(root, "")]
    while stack:
        folder, prefix = stack.pop()
        try:
            with os.scandir(folder) as scan:
                entries = sorted(scan, key=lambda entry: os.fsencode(entry.name))
        except OSError:
            yield folder, prefix, UNREADABLE_FOLDER
            continue
        folders = []
        for entry in entries:
            name = f"{prefix}/{entry.name}" if prefix else entry.name
            is_folder = entry.is_dir(follow_symlinks=False)
            if entry.name.startswith("."):
                yield entry.path, name, HIDDEN
            elif is_folder and entry.name in _PACKAGES:
                yield entry.path, name, PACKAGES
            elif is_folder:
                folders.append((entry.path, name))
            else:
                yield entry.path, name, ""
        stack += reversed(folders)


def _judge(path: str, name: str, index: int, label: str, *, is_named: bool = False) -> InputFile | Passed:
    """A file that the recipe names itself is read as text whatever its suffix."""
    place = printable(name)
    try:
        status = os.stat(path)  # noqa: PTH116 - of 10^5 files, and Path is slow
    except OSError as error:
        return Passed(index, label, place, BROKEN_LINK, error.strerror or "")
    if stat.S_ISDIR(status.st_mode):
        return Passed(index, label, place, FOLDER_LINK, "")
    if not stat.S_ISREG(status.st_mode):
        return Passed(index, label, place, NOT_REGULAR, "")
    format_ = format_of(name) or (PLAIN if is_named else None)
    if format_ is None:
        suffix = Path(name).suffix
        return Passed(index, label, place, UNKNOWN_FORMAT, printable(suffix) or "no suffix")
    return InputFile(index, label, path, place, status.st_size, format_, compression_of(name))


def _nothing(path: Path, index: int, passed: list[Passed]) -> RhapsodeError:
    reasons = sorted({p.reason for p in passed})
    counts = [f"{sum(p.reason == reason for p in passed)} {reason}" for reason in reasons]
    why = f" ({'; '.join(counts)})" if counts else " (it is empty, or include and exclude leave nothing)"
    hint = (
        "name a folder or a file with text: .txt, .md, .html, .jsonl, .csv, .parquet, source code, or .gz, .zst of them"
    )
    return RhapsodeError(f"data.sources[{index}].path: {path} has no file that can be read{why}", hint)
