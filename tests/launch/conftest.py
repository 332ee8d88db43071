import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from rhapsode.launch.job import Job, make_job
from rhapsode.recipe.launch import LaunchConfig

HOSTS = ["node1", "node2"]
# Says with which arguments and in which surroundings it was called, and waits for SIGTERM where it should.
FAKE = """\
#!/bin/bash
{ printf '%s\\n' "$(basename "$0")" "$@"; echo "in $PWD"; echo "threads $OMP_NUM_THREADS"; echo; } >> "$SEEN"
"""
TORCHRUN = """
if [ -n "$WAITS" ]; then
  trap 'echo saved >> "$SEEN"; exit 1' TERM
  echo $$ > "$SEEN.pid"
  for _ in $(seq 200); do sleep 0.05; done
fi
"""
SRUN = """
while [ "${1#--}" != "$1" ]; do shift; done
exec "$@"
"""
SCANCEL = """
kill -TERM "$(cat "$SEEN.pid")"
"""


def make(*, here: Path = Path("/home/anna/project"), name: str = "tales", changes: tuple[str, ...] = (), **launch: Any):
    config = LaunchConfig.model_validate(launch)
    recipe, out = Path("recipes/tales.yaml"), Path("out")
    return make_job(config, name=name, runs=[name], here=here, recipe=recipe, out=out, changes=changes)


class Machine:
    """Where a script runs: programs that only note how they were called."""

    def __init__(self, root: Path) -> None:
        self.root, self.bin, self.seen = root, root / "bin", root / "seen"
        self.bin.mkdir()
        self.has("torchrun", TORCHRUN)

    def has(self, name: str, does: str = "") -> None:
        path = self.bin / name
        path.write_text(FAKE + does)
        path.chmod(0o755)

    def environment(self, **more: str) -> dict[str, str]:
        return {**os.environ, "PATH": f"{self.bin}:{os.environ['PATH']}", "SEEN": str(self.seen), "WAITS": "", **more}

    def runs(self, script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", script, "script", *arguments],
            cwd=self.root,
            env=self.environment(**environment),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def calls(self, name: str) -> list[list[str]]:
        """What `name` was called with, each time; the last two lines are the folder and the threads."""
        calls = [call.splitlines() for call in self.seen.read_text().split("\n\n")]
        return [call[1:] for call in calls if call[:1] == [name]]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder whose name has everything that a shell could misread."""
    path = tmp_path / "it's $HOME; a project"
    path.mkdir()
    return path


def job_in(project: Path, **launch: Any) -> Job:
    return make(here=project, **launch)
