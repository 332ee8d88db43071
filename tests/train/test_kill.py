"""kill -9 at any moment, resume, and every byte is that of the uninterrupted run."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rhapsode.core.events import read_events
from rhapsode.train.trainer import Data

WEIGHTS = {"model": "model.safetensors", "adapter": "adapter_model.safetensors"}


@pytest.mark.parametrize(
    ("moments", "times", "learned"),
    [
        (6, 2, "model"),
        (4, 1, "adapter"),
        pytest.param(200, 30, "model", marks=pytest.mark.slow),
        pytest.param(200, 30, "adapter", marks=pytest.mark.slow),
    ],
    ids=["a few", "a few, of an adapter", "many", "many, of an adapter"],
)
def test_a_killed_run_ends_with_the_same_bytes(
    moments: int, times: int, learned: str, data: Data, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "tests.train.kill_and_resume", str(data.tokens.path), str(tmp_path)]
    root = Path(__file__).parents[2]
    result = subprocess.run(
        [*command, str(moments), str(times), learned], cwd=root, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["operations"] > 100
    assert len(found["endings"]) >= min(moments, found["operations"]) + 2
    whole, weights = found["endings"]["whole"], WEIGHTS[learned]
    assert {weights, "training/optimizer.safetensors", "training/state.json"} < set(whole)
    for name, ending in found["endings"].items():
        assert ending == whole, name
    assert whole["stray"] == ""
    # whatever a crash tore, the journal tells of every step
    steps = {
        event.fields["step"]
        for event in read_events(tmp_path / "random times" / "events.jsonl")
        if event.kind == "step"
    }
    assert steps == {1, 2, 3, 4, 5}
