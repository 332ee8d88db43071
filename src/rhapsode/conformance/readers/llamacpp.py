"""llama.cpp as a reader of a GGUF file, through llama-cpp-python.

llama.cpp ends its whole process when a file breaks one of its assumptions, so it has a process of its own
(`llamacpp_process.py`): what goes wrong there becomes an error here, and all its memory goes back with it.
"""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from rhapsode.conformance.readers.reader import CannotAnswer, Scores
from rhapsode.core.errors import RhapsodeError, VerificationMismatch
from rhapsode.core.machine import examine
from rhapsode.text.chat import Message
from rhapsode.text.sandbox import Sandbox

PROCESS = "rhapsode.conformance.readers.llamacpp_process"
LAST_WORDS = 3
"""Lines of what llama.cpp said that an error repeats."""
INSTALL = "install it with `pip install 'rhapsode[peers]'`; it is compiled, which takes about 10 minutes"
_SANDBOX = Sandbox()


def is_installed() -> bool:
    return importlib.util.find_spec("llama_cpp") is not None


class LlamaCpp:
    """A GGUF file that llama.cpp has loaded. Use it as a context manager: the process ends with it.

    Attributes:
        vocab_size: how many scores there are.
        template: the file's chat template, "" where it has none.
    """

    name = "llama.cpp"

    def __init__(self, path: Path) -> None:
        """Load `path`.

        Raises:
            RhapsodeError: llama-cpp-python is not installed.
            VerificationMismatch: llama.cpp cannot load the file; the message repeats its last words.
        """
        if not is_installed():
            raise RhapsodeError("llama-cpp-python is not installed", INSTALL)
        self._path = path
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `close`
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", PROCESS, str(path.absolute()), str(examine(path.parent).threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env={**os.environ, "GGML_NO_BACKTRACE": "1"},
        )
        try:
            told = self._hear()
            if not told["vocab_size"]:
                raise self._broken("cannot load")
            self.vocab_size: int = told["vocab_size"]
            self.template: str = told["template"]
            self._names: dict[str, str] = told["names"]
        except BaseException:
            self.close()
            raise

    def encode(self, text: str) -> list[int]:
        """The ids of a text, what the model puts before one included; what looks like a special token is text."""
        return self._ids(ask="encode", text=text, add=True, parse=False)

    def parse(self, text: str) -> list[int]:
        """The ids of a rendered conversation: special tokens are read as such and nothing is put before."""
        return self._ids(ask="encode", text=text, add=False, parse=True)

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = False) -> list[int]:
        """The ids of a conversation by the file's template; llama.cpp leaves it to its user to run that.

        Raises:
            CannotAnswer: the file has no template.
        """
        if not self.template:
            raise CannotAnswer("the file has no chat template")
        said = [message.row() for message in messages]
        asked = {"messages": said, "tools": None, "documents": None, "add_generation_prompt": add_generation_prompt}
        return self.parse(_SANDBOX.render(self.template, asked | self._names))

    def all_scores(self, ids: Sequence[int], *, first: int = 0) -> Scores:
        """Scores [T - first, V] of what follows each token from number `first` on."""
        scores: Scores = self._asked(ask="scores", ids=list(ids), first=first)["array"]
        return scores

    def greedy(self, ids: Sequence[int], n: int) -> list[int]:
        """The `n` likeliest tokens, one after the other."""
        return self._ids(ask="greedy", ids=list(ids), count=n)

    def stops(self) -> frozenset[int]:
        """The tokens that end an answer."""
        return frozenset(self._ids(ask="stops"))

    def controls(self) -> frozenset[int]:
        """The tokens that llama.cpp finds in no text; those are not always the ones that the file calls so."""
        return frozenset(self._ids(ask="controls"))

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()  # it owns nothing that a kill could harm
        self._process.communicate()
        self._said.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ids(self, **question: Any) -> list[int]:
        ids: list[int] = self._asked(**question)["ids"]
        return ids

    def _asked(self, **question: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(question).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended; `_hear` says why
        return self._hear()

    def _hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.endswith(b"\n"):
            code = self._process.wait()
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            raise self._broken(f"broke off ({how}) while it read")
        told: dict[str, Any] = json.loads(line)
        if told.get("refused"):
            raise RhapsodeError(f"llama.cpp, reading {self._path.name}, {told['refused']}", "ask it for fewer tokens")
        if told["bytes"]:
            data = self._process.stdout.read(told["bytes"])
            told["array"] = np.frombuffer(data, np.float32).reshape(told["shape"])
        return told

    def _broken(self, what: str) -> VerificationMismatch:
        self._said.seek(0)
        lines = self._said.read().decode("utf-8", "replace").split("\n")
        words = "; ".join([line.strip() for line in lines if line.strip()][-LAST_WORDS:])
        return VerificationMismatch(
            f"llama.cpp {what} {self._path.name}{': ' if words else ''}{words}",
            "the file is not one that llama.cpp reads; write it again from its model directory",
        )
