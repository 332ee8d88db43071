"""Runs trainings that are killed with SIGKILL, resumes them, and prints where each one ended.

A program of its own: it imports torch once and forks a process for every attempt. An attempt dies either at its n-th
operation on a file of the run (every open, rename, removal, flush to disk, write of weights and end of such a file
counts), or at some time. All of them are done by the thread that saves, while the other one trains.
"""

import dataclasses
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.conftest import make_decoder
from tests.train.conftest import load_data, make_plan, make_run
from tests.weights.conftest import save_model

from rhapsode.core import manifest
from rhapsode.core.events import Events, JsonLines
from rhapsode.core.manifest import digest
from rhapsode.model.adapter_spec import AdapterSpec
from rhapsode.train.plan import TrainPlan
from rhapsode.train.trainer import Data
from rhapsode.weights.names import checkpoints
from rhapsode.weights.safetensors import TensorWriter

WATCHED = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.scandir", "shutil.rmtree"}


class Assassin:
    """Counts operations below `run_dir`; the `moment`-th is the process's last. Prints how many there were."""

    def __init__(self, run_dir: Path, moment: int | None) -> None:
        self.count, self._moment, self._prefix = 0, moment, str(run_dir)
        sys.addaudithook(self._hear)
        for owner, name in ((manifest.os, "fsync"), (manifest.os, "pwrite"), (TensorWriter, "__exit__")):
            setattr(owner, name, self._around(getattr(owner, name)))

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in WATCHED and str(arguments[0]).startswith(self._prefix):
            self._strike()

    def _around(self, work: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any, **options: Any) -> Any:
            self._strike()
            result = work(*arguments, **options)
            self._strike()
            return result

        return watched

    def _strike(self) -> None:
        self.count += 1
        if self.count == self._moment:
            os.kill(os.getpid(), signal.SIGKILL)


def attempt(
    plan: TrainPlan,
    data: Data,
    run_dir: Path,
    *,
    base: Path | None = None,
    moment: int | None = None,
    seconds: float | None = None,
) -> bool:
    """Go on with the run in a process of its own; True if it came to the end alive."""
    process = os.fork()
    if process == 0:
        assassin = Assassin(run_dir, moment)
        with JsonLines(run_dir / "events.jsonl") as journal:
            make_run(plan, data, run_dir, events=Events(journal), base=base)(resume=True)
        (run_dir.parent / f"{run_dir.name}.count").write_text(str(assassin.count))
        os._exit(0)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    if not killed and os.waitstatus_to_exitcode(status):
        raise SystemExit(f"the attempt ended with {status}")
    return not killed


def ending(run_dir: Path) -> dict[str, str]:
    last = checkpoints(run_dir)[-1]
    stray = sorted(
        p.name for p in run_dir.iterdir() if p.name not in {"events.jsonl", *(c.name for c in checkpoints(run_dir))}
    )
    return {"digest": digest(last), **manifest.verify(last).files, "stray": " ".join(stray)}


def upon_a_base(plan: TrainPlan, data: Data, base: Path) -> TrainPlan:
    """The same training of an adapter upon a base, which is written."""
    save_model(base, make_decoder(plan.spec, std=0.1), data.tokens.tokenizer_dir)
    adapter = AdapterSpec(rank=4, alpha=8)
    return dataclasses.replace(plan, base=digest(base), init_seed=None, optimizer="adamw", adapter=adapter)


def main(tokens: Path, work: Path, *, moments: int, times: int, learned: str) -> None:
    data = load_data(tokens)
    plan = make_plan(vocab_size=data.tokenizer.vocab_size, steps=5, save_every=1, validate_every=2)
    base = work / "base" if learned == "adapter" else None
    if base is not None:
        plan = upon_a_base(plan, data, base)

    def run_dir(name: str) -> Path:
        (work / name).mkdir()
        return work / name

    whole = run_dir("whole")
    start = time.perf_counter()
    assert attempt(plan, data, whole, base=base)
    length = time.perf_counter() - start
    operations = int((work / "whole.count").read_text())
    endings = {"whole": ending(whole)}
    chosen = sorted({1 + round(i * (operations - 1) / (moments - 1)) for i in range(moments)}) if moments > 1 else []
    for moment in chosen:
        killed = run_dir(f"operation {moment}")
        assert not attempt(plan, data, killed, base=base, moment=moment)
        assert attempt(plan, data, killed, base=base)
        endings[killed.name] = ending(killed)
    chased, kills, dice = run_dir("random times"), 0, random.Random(0)
    while kills < times and not attempt(plan, data, chased, base=base, seconds=dice.uniform(0.1, 0.7) * length):
        kills += 1
    attempt(plan, data, chased, base=base)
    endings[chased.name] = ending(chased)
    sys.stdout.write(json.dumps({"operations": operations, "kills": kills, "endings": endings}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), moments=int(sys.argv[3]), times=int(sys.argv[4]), learned=sys.argv[5])
