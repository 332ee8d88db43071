"""Beside the model there is at most one tensor in memory, whatever is read or written."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SLACK = 30 << 20
"""Blocks, a tokenizer, what an allocator keeps, pages of programs: less than the largest tensor."""

EXACT = {"MALLOC_MMAP_THRESHOLD_": str(128 << 10)}
"""glibc gives back at once what is let go: its heap else holds twice as much, or not, as two threads chance to meet."""


def grown(what: str, dtype: str, tokenizer_dir: Path, work: Path) -> dict[str, int]:
    command = [sys.executable, "-m", "tests.weights.peak_memory", str(work), str(tokenizer_dir), what, dtype]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, env=os.environ | EXACT, capture_output=True, text=True, check=False)
    if "clear_refs" in done.stderr:
        pytest.skip("this system does not measure the memory of a process")
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_memory_grows_by_no_more_than_it_must(dtype: str, tokenizer_dir: Path, tmp_path: Path) -> None:
    written = grown("write", dtype, tokenizer_dir, tmp_path)
    assert written["largest"] > SLACK
    assert written["peak"] < written["largest"] + SLACK  # its maker holds one tensor; the writer adds none
    assert grown("read", dtype, tokenizer_dir, tmp_path)["peak"] < 4 * written["parameters"] + SLACK
    assert grown("take", dtype, tokenizer_dir, tmp_path)["peak"] < SLACK


def test_a_base_is_never_wider_than_it_is_kept(tokenizer_dir: Path, tmp_path: Path) -> None:
    grown("write", "bfloat16", tokenizer_dir, tmp_path)
    stored = grown("store", "bfloat16", tokenizer_dir, tmp_path)
    widened = 4 * stored["parameters"]
    assert widened > 6 * SLACK
    assert stored["peak"] < widened / 3 + SLACK  # less than half a bfloat16 model, one matrix at work included
