"""Putting a job on disk, and handing it to whoever runs it."""

import contextlib
import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rhapsode.core.errors import RhapsodeError
from rhapsode.launch.job import Job
from rhapsode.launch.targets import TARGETS
from rhapsode.launch.torchrun import is_here


class Written(NamedTuple):
    """A job on disk.

    Attributes:
        path: its file.
        commands: what submits it, or starts it on each machine.
        unused: fields of `launch:` that this target has no use for.
        is_here: whether the command is all that it takes, on this machine.
    """

    path: Path
    commands: list[list[str]]
    unused: list[str]
    is_here: bool

    @property
    def lines(self) -> list[str]:
        """The commands as a person types them."""
        return [shlex.join(command) for command in self.commands]


def write_job(job: Job, name: str) -> Written:
    """Write `job` for the target of this name, below its `out`.

    Raises:
        RecipeError: the recipe does not say what the target must know; nothing is written.
        RhapsodeError: the file cannot be written.
    """
    target = TARGETS[name]
    target.require(job.config)
    text = target.text(job)
    path = job.directory / f"{name}{target.suffix}"
    commands = target.commands(job, path)
    _put(path, text)
    return Written(path, commands, target.unused(job.config), is_here=name == "torchrun" and is_here(job))


def submit(written: Written) -> None:
    """Hand the job to its scheduler, whose own words appear on the terminal.

    Raises:
        RhapsodeError: that program is not here, or it refused.
    """
    (command,) = _only(written.commands)
    if shutil.which(command[0]) is None:
        raise RhapsodeError(
            f"{command[0]} is not on this machine; {written.path} is written",
            f"where it is: {shlex.join(command)}",
        )
    code = subprocess.run(command, check=False).returncode
    if code != 0:
        raise RhapsodeError(f"{shlex.join(command)} failed with exit code {code}", f"{written.path} is written")


def start(written: Written) -> None:
    """Become the job: what was started here is stopped, and ends, as the job is."""
    (command,) = _only(written.commands)
    os.execvp(command[0], command)


def _only(commands: Sequence[list[str]]) -> Sequence[list[str]]:
    if len(commands) > 1:
        raise RhapsodeError(
            f"this job starts on {len(commands)} machines, and nobody here may start it on all of them",
            "; ".join(shlex.join(command) for command in commands),
        )
    return commands


def _put(path: Path, text: str) -> None:
    """The whole file or none."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise RhapsodeError(f"{path}: {error.strerror}", "give another folder with --out") from None
