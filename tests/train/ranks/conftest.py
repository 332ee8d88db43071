import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from rhapsode.train.trainer import Data

ROOT = Path(__file__).parents[3]


class Ended(NamedTuple):
    """How a rank ended: its exit code, one value a job, and what it said."""

    code: int
    results: list[Any]
    said: str


class Crew:
    """Ranks under way."""

    def __init__(self, size: int, jobs: Sequence[dict[str, Any]], *, data: Data) -> None:
        command = [sys.executable, "-m", "tests.train.ranks.crew", str(data.tokens.path), str(size), str(free_port())]
        self._program = subprocess.Popen(
            [*command, json.dumps(jobs)],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "FATAL"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait(self) -> list[Ended]:
        """Until all have ended."""
        out, said = self._program.communicate(timeout=300)
        assert self._program.returncode == 0, said
        return [Ended(**ended) for ended in json.loads(out)]

    def succeed(self) -> list[Ended]:
        ended = self.wait()
        for rank in ended:
            assert rank.code == 0, rank.said
        return ended


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@pytest.fixture(scope="session")
def crew(data: Data) -> Callable[..., Crew]:
    return lambda size, *jobs: Crew(size, jobs, data=data)
