"""Held-out bits per byte over minutes of training, beside other software, each with its own defaults.

python bench/time_to_quality.py --data DIR --sides ours transformers litgpt gpt     # ten minutes each
python bench/time_to_quality.py --data DIR --sides ours --minutes 4
python bench/time_to_quality.py --show out/bench/time_to_quality.jsonl              # table and chart of all so far
"""

import argparse
import multiprocessing
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import torch
from arena import standing
from arena.figures import keep, provenance
from arena.held_out import HeldOut
from arena.mix import Mix, make_mix
from arena.ours import fresh_home
from arena.race import Ours, Theirs, run
from arena.shape import Shape, add_shape_options, shape_of
from peers.litgpt_model import PRETRAIN
from peers.loop import Habits, How, Loop
from peers.plain_gpt import SMALL_NETWORKS
from peers.registry import build, is_here
from peers.transformers_llama import FROM_SCRATCH, TRAINER

from rhapsode.corpus.tokens import Tokens
from rhapsode.kernels.waiting import SPINS

CPU = torch.device("cpu")
TUNED = 2.5e-3
"""For the peers' AdamW, at this size and these budgets: what we would take for ours, 0.003 sqrt(256 / width)."""


class Entry(NamedTuple):
    """A peer with its habits; of the kind "peer" where they are its own, "tuned" where we chose the rate."""

    peer: str
    habits: Habits
    kind: str


def tuned(habits: Habits) -> Habits:
    return habits._replace(rate=TUNED, betas=(0.9, 0.95), floor=0.0)


PEERS = {
    "transformers": Entry("transformers", FROM_SCRATCH, "peer"),
    "transformers-trainer": Entry("transformers", TRAINER, "peer"),
    "litgpt": Entry("litgpt", PRETRAIN, "peer"),
    "gpt": Entry("gpt", SMALL_NETWORKS, "peer"),
    "transformers-tuned": Entry("transformers", tuned(FROM_SCRATCH), "tuned"),
    "litgpt-tuned": Entry("litgpt", tuned(PRETRAIN), "tuned"),
    "gpt-tuned": Entry("gpt", tuned(SMALL_NETWORKS), "tuned"),
}
OURS: dict[str, str | None] = {"ours": "qwen3", "ours-llama": "llama", "ours-default": None}
"""In the peers' shape with the family that we train by default, as exactly their Llama, and as our defaults have it."""


class Task(NamedTuple):
    """One race of one side."""

    side: str
    seed: int
    shape: Shape
    tokens_dir: Path
    minutes: float
    look_every: float
    rows: int
    threads: int
    is_compiled: bool
    results: Path


def race(task: Task) -> None:
    """Run it in this process and keep the record."""
    torch.set_num_threads(task.threads)
    tokens, shape, seconds = Tokens.open(task.tokens_dir), task.shape, task.minutes * 60
    held_out = HeldOut(tokens, context=shape.context, rows=task.rows, device=CPU)
    racer: Ours | Theirs
    if task.side in OURS:
        kind, family = "ours", OURS[task.side]
        spec = shape.spec(family) if family else None
        racer = Ours(spec, task.tokens_dir, context=shape.context, seconds=seconds, seed=task.seed)
        parameters = racer.plan.spec.parameters
    else:
        entry = PEERS[task.side]
        peer = build(entry.peer)(shape, seed=task.seed)
        how = How(autocast=True, compiled=task.is_compiled)
        loop = Loop(peer, how=how, habits=entry.habits, device=CPU)
        racer = Theirs(loop, entry.habits, task.tokens_dir, context=shape.context, rows=task.rows, seed=task.seed)
        kind, parameters = entry.kind, sum(p.numel() for p in peer.model.parameters())
    looks, memory = run(racer, held_out, seconds=seconds, look_every=task.look_every)
    record = provenance("time_to_quality", device=CPU, threads=task.threads)
    record |= {"side": task.side, "kind": kind, "seed": task.seed, "minutes": task.minutes, "habits": racer.habits}
    record |= {"shape": asdict(shape), "parameters": parameters, "mix": task.tokens_dir.name}
    record |= {"held_out_bytes": held_out.bytes, "peak_memory": memory, "looks": [look._asdict() for look in looks]}
    keep(record, task.results)


def start(task: Task) -> None:
    """Each race has a process of its own, and the machine for itself."""
    print(f"{task.side}, seed {task.seed}, {task.minutes:g} minutes", file=sys.stderr)
    if task.side in OURS:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    else:
        os.environ.pop("GOMP_SPINCOUNT", None)
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    process = multiprocessing.get_context("spawn").Process(target=race, args=(task,))
    process.start()
    process.join()
    if process.exitcode:
        sys.exit(f"{task.side} ended with code {process.exitcode}; what it said stands above")


def show(paths: list[Path], chart: Path) -> None:
    records = standing.read(paths)
    print(f"\n{standing.table(records)}\n\n" + "\n".join(standing.verdicts(records)))
    standing.draw(records, chart)
    print(f"\nchart: {chart}")


def main() -> None:
    options = parse()
    if options.show:
        show(options.show, options.chart)
        return
    if missing := [side for side in options.sides if side in PEERS and not is_here(PEERS[side].peer)]:
        sys.exit(f"{', '.join(missing)}: not installed; see bench/README.md")
    shape = shape_of(options)
    mix = Mix(train=options.train_characters, held_out=options.held_out_characters, vocab=shape.vocab)
    tokens_dir = make_mix(options.data, mix, root=options.results.parent)
    task = Task(
        side="",
        seed=0,
        shape=shape,
        tokens_dir=tokens_dir,
        minutes=options.minutes,
        look_every=options.look_every,
        rows=options.rows,
        threads=options.threads,
        is_compiled=not options.eager,
        results=options.results,
    )
    for seed in options.seeds:
        for side in options.sides:
            with fresh_home():
                start(task._replace(side=side, seed=seed))
    show([options.results], options.chart)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_shape_options(parser)
    parser.add_argument("--data", type=Path, help="the folder with novels.jsonl.zst and the other sets")
    parser.add_argument("--sides", nargs="+", choices=[*OURS, *PEERS], default=["ours", "transformers"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="each side runs once with each; default 0")
    parser.add_argument("--minutes", type=float, default=10.0, help="of training, looks not counted; default 10")
    parser.add_argument("--look-every", type=float, default=60.0, help="seconds of training; default 60")
    parser.add_argument("--rows", type=int, default=8, help="of the peers' batches; ours are the plan's; default 8")
    parser.add_argument("--eager", action="store_true", help="peers are not compiled")
    parser.add_argument("--train-characters", type=int, default=Mix().train, help="of every set")
    parser.add_argument("--held-out-characters", type=int, default=Mix().held_out, help="of every set, about")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--results", type=Path, default=Path("out/bench/time_to_quality.jsonl"))
    parser.add_argument("--chart", type=Path, default=Path("out/bench/time_to_quality.svg"))
    parser.add_argument("--show", nargs="+", type=Path, metavar="RESULTS", help="run nothing, show these")
    options = parser.parse_args()
    if options.data is None and not options.show:
        parser.error("--data is needed: the folder with novels.jsonl.zst and the other sets")
    return options


if __name__ == "__main__":
    main()
