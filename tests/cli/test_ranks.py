"""`torchrun ... -m rhapsode`: several ranks walk a recipe, the first one alone speaks."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.recipe.conftest import recipe_path  # noqa: F401 - a fixture
from tests.train.ranks.conftest import free_port

from rhapsode.core.events import read_events
from rhapsode.core.manifest import verify

LAYOUTS = [
    ("shard", "train.parallel=shard", "shard"),
    ("replicate", "train.parallel=replicate", "replicate"),
    ("tensor", "train.tensor=2", "1 x 2 tensor"),
]
"""A name, what asks for it, and what the plan then says."""


def call(recipe: Path, *command: str, ranks: int) -> subprocess.CompletedProcess[str]:
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", str(ranks), "--master-port", str(free_port())]
    return subprocess.run(
        [sys.executable, *(launcher if ranks > 1 else []), "-m", "rhapsode", *command],
        cwd=recipe.parent,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.mark.slow
def test_two_ranks_walk_a_recipe_and_one_goes_on(recipe_path: Path) -> None:  # noqa: F811
    for layout, value, told in LAYOUTS:
        asked = (recipe_path.name, "--set", value, "--set", "model.width=256", "--out", layout, "--json")
        ended = call(recipe_path, "run", *asked, ranks=2)
        assert ended.returncode == 0, ended.stderr
        result = json.loads(ended.stdout)  # one line: that of one rank
        verify(recipe_path.parent / result["model"])
        assert (recipe_path.parent / result["report"]).exists()
        assert re.search(rf"2 ranks +{told} ", ended.stderr)
        assert ended.stderr.count("Training\n") == 1

    for layout, change in (("shard", "parallel: shard -> replicate"), ("tensor", "tensor: 2 -> 1")):
        run_dir = recipe_path.parent / layout / "runs" / "small"
        shutil.rmtree(run_dir / "step-000004")
        again = (recipe_path.name, "--set", "model.width=256", "--out", layout, "--resume", "--json")
        ended = call(recipe_path, "train", *again, ranks=1)
        assert ended.returncode == 0, ended.stderr
        said = [event.fields for event in read_events(run_dir / "events.jsonl") if event.kind == "resumed_elsewhere"]
        assert {"ranks: 2 -> 1", change} <= {*said[0]["changes"]}
        verify(run_dir / "step-000004")


@pytest.mark.slow
def test_what_is_refused_is_said_once(recipe_path: Path) -> None:  # noqa: F811
    recipe_path.write_text(recipe_path.read_text() + "sweep:\n  train.seed: [0, 1]\n")
    ended = call(recipe_path, "train", recipe_path.name, "--json", ranks=2)
    assert ended.returncode != 0
    assert ended.stdout.count('"error"') == 1
    assert "the runs of a sweep are walked by one process" in ended.stderr
