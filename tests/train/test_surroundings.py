"""Training depends on its plan and on nothing else around it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.train.conftest import make_plan, make_run

from rhapsode.core.manifest import digest
from rhapsode.train.trainer import Data

PROGRAM = """
import os, sys
from pathlib import Path
import torch
from tests.train.conftest import load_data, make_plan, make_run
from rhapsode.core.manifest import digest

torch.set_num_threads(int(sys.argv[3]))
data = load_data(Path(sys.argv[1]))
plan = make_plan(vocab_size=data.tokenizer.vocab_size, samples=0, steps=3)
print(digest(make_run(plan, data, Path(sys.argv[2]))(resume=False)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="processors are chosen in Linux's way")
def test_no_home_no_locale_an_odd_clock_one_processor_and_no_priority(data: Data, tmp_path: Path) -> None:
    def humble() -> None:
        os.nice(19)
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

    threads = torch.get_num_threads()
    plan = make_plan(vocab_size=data.tokenizer.vocab_size, samples=0, steps=3)
    expected = digest(make_run(plan, data, tmp_path / "a")(resume=False))
    kept = {name: os.environ[name] for name in ("PATH", "RHAPSODE_HOME")}  # where the compiler is, and what it made
    odd = {"LANG": "C", "LC_ALL": "C", "TZ": "Pacific/Chatham", "TMPDIR": "/nowhere", **kept}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(data.tokens.path), str(tmp_path / "b"), str(threads)],
        cwd=Path(__file__).parents[2],
        env=odd,
        preexec_fn=humble,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == expected
