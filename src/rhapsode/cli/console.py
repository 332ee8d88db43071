"""Where words go: results to standard output, everything else to standard error.

Text of the user (paths, keys, documents) is printed as it is: square brackets in it are not markup.
"""

import functools
import json
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rhapsode.core.errors import RhapsodeError

PIPED_WIDTH = 120
"""Columns when the output is not a terminal: a log file should not wrap like a narrow window."""

Cell = str | Text


@functools.cache
def stdout() -> Console:
    return _console(is_stderr=False)


@functools.cache
def stderr() -> Console:
    return _console(is_stderr=True)


def give(result: Mapping[str, Any], *, as_json: bool, show: Callable[[Console], None]) -> None:
    """A verb's result: for a program if it asked with --json, else for a person."""
    if as_json:
        print_json(result)
    else:
        show(stdout())


def program() -> str:
    """How this program can be called again: by its name where the shell finds it, else as it was called now."""
    if shutil.which("rhapsode"):
        return "rhapsode"
    return sys.argv[0] if Path(sys.argv[0]).stem != "__main__" else f"{sys.executable} -m rhapsode"


def print_json(value: Mapping[str, Any]) -> None:
    """One line of JSON on standard output, at once: a reader at the other end of a pipe may wait for it."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n")
    sys.stdout.flush()


def print_error(error: RhapsodeError) -> None:
    _label("error", "bold red", error.message)
    if error.hint:
        _label("hint", "bold cyan", error.hint)


def print_warning(message: str) -> None:
    _label("warning", "bold yellow", message)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Cell]], *, right: Iterable[int] = ()) -> Table:
    """A plain table; `right` are the numbers of the columns that hold figures."""
    drawn = Table(
        title=title or None,
        title_justify="left",
        title_style="bold",
        box=None,
        pad_edge=False,
        show_header=any(columns),
    )
    figures = set(right)
    for number, column in enumerate(columns):
        drawn.add_column(column, justify="right" if number in figures else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in row))
    return drawn


def _label(word: str, style: str, message: str) -> None:
    """`word: message`; further lines of the message stand below the first, one beneath the other."""
    indented = message.replace("\n", "\n" + " " * (len(word) + 2))
    stderr().print(Text.assemble((f"{word}:", style), " ", indented), soft_wrap=True)


def _console(*, is_stderr: bool) -> Console:
    stream = sys.stderr if is_stderr else sys.stdout
    return Console(
        stderr=is_stderr,
        width=None if stream.isatty() else PIPED_WIDTH,
        markup=False,
        highlight=False,
        emoji=False,
    )
