"""Several ranks, as a program: they train what they are told to, and some may die on the way.

It imports torch once and forks the ranks, each with the environment that torchrun would give it. In the end it prints
how each of them ended: its exit code, one value a job, and what it said.
"""

import json
import os
import shutil
import signal
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

import torch
from tests.train.conftest import CPU, load_data, make_plan, make_run, numbers
from tests.train.test_memory import Greedy

from rhapsode.core.errors import RhapsodeError
from rhapsode.core.events import Events, JsonLines
from rhapsode.model.decoder import Decoder
from rhapsode.train.objective import Batch, NextToken, Objective, next_token
from rhapsode.train.objectives.loss import Loss
from rhapsode.train.ranks.join import joined
from rhapsode.train.ranks.ranks import Ranks
from rhapsode.train.signals import stop_wishes
from rhapsode.train.trainer import Data, Trainer
from rhapsode.weights.checkpoint import STATE
from rhapsode.weights.safetensors import write_tensors


class Mortal(NextToken):
    """Next-token training in which a process gets a signal, for example one that kills it, at its n-th micro-batch."""

    __name__ = "next_token"

    def __init__(self, moment: int, number: int) -> None:
        self._moment, self._number, self._count = moment, number, 0

    def __call__(self, model: Decoder, batch: Batch) -> Loss:
        self._count += torch.is_grad_enabled()
        if self._count == self._moment:
            os.kill(os.getpid(), self._number)
        return next_token(model, batch)


def step(job: dict[str, Any], data: Data, ranks: Ranks) -> dict[str, Any]:
    """Some steps of a trainer; what this rank holds in the end goes to a file."""
    plan = make_plan(vocab_size=data.tokenizer.vocab_size, **job["plan"])
    trainer = Trainer(plan, data, device=CPU, ranks=ranks)
    if job.get("from"):
        trainer.restore(Path(job["from"]))
    for _ in range(job["steps"]):
        result = trainer.step()
    tensors = {w.name: w.value for w in trainer.masters.weights} | trainer.optimizer.state()
    write_tensors(Path(job["to"]) / f"{job['name']}-{ranks.rank}", tensors)
    return {"loss": result.loss, "tokens": result.tokens, "norm": result.grad_norm}


def run(job: dict[str, Any], data: Data, ranks: Ranks) -> str:
    """A whole run, with its checkpoints."""
    plan = make_plan(vocab_size=data.tokenizer.vocab_size, **job["plan"])
    rank = str(ranks.rank)
    objective: Objective = Mortal(*job["die"][rank]) if rank in job.get("die", {}) else next_token
    if rank in job.get("short", {}):
        objective = Greedy(job["short"][rank])
    run_dir = Path(job["to"])
    with JsonLines(run_dir / f"events-{ranks.rank}.jsonl") as journal, stop_wishes() as wish:
        events = Events(journal)
        ranks.listen(events)
        train = make_run(plan, data, run_dir, events=events, wish=wish, objective=objective, ranks=ranks)
        return str(train(resume=job["resume"]))


def rewrite(job: dict[str, Any], data: Data, ranks: Ranks) -> None:
    """The tensors of a checkpoint are read and written again."""
    plan = make_plan(vocab_size=data.tokenizer.vocab_size, **job["plan"])
    trainer, to = Trainer(plan, data, device=CPU, ranks=ranks), Path(job["to"])
    trainer.restore(Path(job["from"]))
    mine = trainer.shares([(w.name, w.value) for w in trainer.masters.weights], trainer.optimizer.state())
    if ranks.rank == 0:
        to.mkdir()
        mine.plan(to)
        shutil.copyfile(Path(job["from"]) / STATE, to / STATE)
    ranks.any(wish=False)
    mine.write(to)
    ranks.any(wish=False)


def work(data_dir: Path, jobs: list[dict[str, Any]], into: Path) -> None:
    """The life of one rank."""
    with joined(silence=4, start=60) as ranks, into.open("w") as out:
        data, kinds = load_data(data_dir), {"step": step, "run": run, "rewrite": rewrite}
        for job in jobs:
            with numbers(job["plan"].get("precision")):
                out.write(json.dumps(kinds[job["do"]](job, data, ranks)) + "\n")
            out.flush()


def fork(rank: int, place: dict[str, str], data_dir: Path, jobs: list[dict[str, Any]], room: Path) -> int:
    """Start a rank; gives its process."""
    if process := os.fork():
        return process
    os.environ |= {**place, "RANK": str(rank), "LOCAL_RANK": str(rank)}
    said = os.open(room / f"{rank}.err", os.O_WRONLY | os.O_CREAT)
    os.dup2(said, 2)
    code = 1
    try:
        work(data_dir, jobs, room / f"{rank}.out")
        code = 0
    except RhapsodeError as error:
        os.write(said, f"error: {error.message}\n hint: {error.hint}\n".encode())
    except BaseException:  # noqa: BLE001 - it goes to whoever reads what the rank said
        os.write(said, traceback.format_exc().encode())
    os._exit(code)


def main(data_dir: str, size: int, port: str, jobs: list[dict[str, Any]], room: Path) -> list[dict[str, Any]]:
    place = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = [fork(rank, place, Path(data_dir), jobs, room) for rank in range(size)]
    deaths = [(int(rank), number) for job in jobs for rank, (_, number) in job.get("die", {}).items()]
    doomed = {rank for rank, number in deaths if number != signal.SIGTERM}
    codes = {}
    for rank in sorted(range(size), key=lambda rank: rank in doomed):
        if rank in doomed:  # it may be stopped, and then nothing else ends it
            os.kill(processes[rank], signal.SIGKILL)
        codes[rank] = os.waitstatus_to_exitcode(os.waitpid(processes[rank], 0)[1])
    return [
        {
            "code": codes[rank],
            "results": [json.loads(line) for line in (room / f"{rank}.out").read_text().splitlines()],
            "said": (room / f"{rank}.err").read_text(),
        }
        for rank in range(size)
    ]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        ended = main(sys.argv[1], int(sys.argv[2]), sys.argv[3], json.loads(sys.argv[4]), Path(folder))
    sys.stdout.write(json.dumps(ended))
