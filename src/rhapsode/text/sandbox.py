"""Rendering chat templates at arm's length: in one worker process, begun when first needed and kept.

A template comes with a model and may be hostile. See `worker` for what holds it; here is what happens when it lets go:
the worker is gone, the caller gets an error, and the next rendering begins another.
"""

import json
import os
import signal
import subprocess
import sys
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

from rhapsode.core.errors import RhapsodeError

_WORKER = Path(__file__).with_name("worker.py")
_LONGEST_REQUEST = 16 * 2**20
_LONGEST_REPLY = 64 * 2**20
_HINT = "correct chat_template.jinja, or use completion: rhapsode chat --complete, /v1/completions"


class Sandbox:
    """Renders templates, one at a time."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._worker: subprocess.Popen[str] | None = None
        self._owner = 0
        self._ending: weakref.finalize[[subprocess.Popen[str]], Sandbox]

    def render(self, template: str, variables: Mapping[str, Any]) -> str:
        """What the jinja `template` makes of `variables`, which are plain JSON values.

        Raises:
            RhapsodeError: the template refuses the conversation (the error quotes it), is not valid, or asks for more
                than a second, 64 MiB or 4 MiB of text.
        """
        reply = self._asked({"template": template, "variables": variables})
        if "refused" in reply:
            raise RhapsodeError(
                f"the chat template refuses this conversation: {reply['refused']}", "change the messages as it asks"
            )
        if "fault" in reply:
            raise RhapsodeError(f"the chat template fails: {reply['fault']}", _HINT)
        return str(reply["text"])

    def render_beginnings(
        self, template: str, variables: Mapping[str, Any], beginnings: Sequence[tuple[int, bool, str]]
    ) -> list[str | int | None]:
        """What the template makes of beginnings of the conversation; None where it refuses or fails.

        A number is so many characters of the first.

        Args:
            beginnings: how many of the messages, whether an answer is asked for, and a JSON list of other messages
                behind them.

        Raises:
            RhapsodeError: one of them takes more than `render` grants each; nothing is known of the others then.
        """
        reply = self._asked({"template": template, "variables": variables, "beginnings": beginnings})
        return list(reply.get("texts", [None] * len(beginnings)))

    def _asked(self, request: Mapping[str, Any]) -> dict[str, Any]:
        line = json.dumps(request)
        if len(line) > _LONGEST_REQUEST:
            raise RhapsodeError(
                f"the conversation and its chat template are longer than {_LONGEST_REQUEST >> 20} MiB",
                "shorten the messages",
            )
        with self._lock:
            return self._exchange(line)

    def _exchange(self, request: str) -> dict[str, Any]:
        worker = self._begin()
        assert worker.stdin is not None
        assert worker.stdout is not None
        try:
            worker.stdin.write(request + "\n")
            worker.stdin.flush()
            reply: dict[str, Any] = json.loads(worker.stdout.readline(_LONGEST_REPLY))
        except (OSError, ValueError):  # the pipe ended: the kernel stopped the worker
            code = self._end()
            what = "takes longer than a second" if code == -signal.SIGPROF else f"ended its worker with code {code}"
            raise RhapsodeError(f"the chat template {what}", _HINT) from None
        except BaseException:
            self._end()  # interrupted: a reply that still comes belongs to no question
            raise
        return reply

    def _begin(self) -> subprocess.Popen[str]:
        """The worker of this process; a forked child begins its own, and one that is gone is replaced."""
        if self._worker is not None and self._owner == os.getpid() and self._worker.poll() is not None:
            self._end()
        if self._worker is None or self._owner != os.getpid():
            pipe = subprocess.PIPE
            self._worker = subprocess.Popen(
                [sys.executable, "-P", str(_WORKER)], stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True
            )
            self._owner = os.getpid()
            self._ending = weakref.finalize(self, _end, self._worker)
        return self._worker

    def _end(self) -> int:
        self._worker = None
        return self._ending() or 0


def _end(worker: subprocess.Popen[str]) -> int:
    """Stop the worker if it still runs; the code that it ended with."""
    worker.kill()
    worker.communicate()
    return worker.wait()


SANDBOX = Sandbox()
"""The one of this process."""
