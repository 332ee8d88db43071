"""Examples a second and peak memory of tuning an adapter, beside others on the same examples in the same order.

python bench/tuning.py recipes/support-intents.yaml                   # any recipe with data.examples and train.adapter
python bench/tuning.py RECIPE --peers trl trl-packed --weights bf16 autocast --rows 4 16 --rounds 5 --steps 2

All sides live at once, each in a process of its own, and take turns; where memory is short, name fewer of them.
"""

import argparse
import functools
import itertools
import os
import statistics
import sys
from pathlib import Path

import torch
from arena.examples import CPU, Contest, order_of
from arena.figures import keep, peak_memory, provenance, spread
from arena.turns import Running, Side, Step, Turn, meet_all
from peers import peft_loop, trl_trainer
from peers.peft_loop import How

from rhapsode.kernels.waiting import SPINS
from rhapsode.train.trainer import Trainer

PEERS = {"peft": peft_loop.start, **dict.fromkeys(trl_trainer.KINDS, trl_trainer.start)}
OURS = "ours"


def start_ours(contest: Contest) -> Running:
    torch.set_num_threads(contest.threads)
    plan = contest.plan()
    trainer = Trainer(plan.train, plan.data, device=CPU, base=plan.base_directory)
    order = order_of(plan)

    def step() -> Step:
        count = len(next(order))
        return Step(count, trainer.step().loss)

    return Running(step, functools.partial(peak_memory, CPU))


def contest(options: argparse.Namespace, given: Contest, peers: list[How]) -> dict[str, list[Turn]]:
    sides: dict[str, Side] = {}
    try:
        spins = {"GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", SPINS)}
        sides[OURS] = Side(functools.partial(start_ours, given), environment=spins)
        for how in peers:
            sides[how.name] = Side(functools.partial(PEERS[how.peer], given, how), environment={})
        return meet_all(sides, rounds=options.rounds, steps=options.steps, warmup=options.warmup, unit="examples/s")
    finally:
        for side in sides.values():
            side.stop()


def table(turns: dict[str, list[Turn]]) -> str:
    """A line for each side; ratios are taken within a round, ours over theirs."""
    rows = ["| peer:weights:rows:allocator | examples/s | ours is faster | memory MB | ours needs | loss |"]
    rows.append("| --- | --- | --- | --- | --- | --- |")
    ours = turns[OURS]
    for name, own in turns.items():
        ratios = [a.speed / b.speed for a, b in zip(ours, own, strict=True)]
        share = ours[-1].memory / own[-1].memory
        cells = [name, spread([turn.speed for turn in own], 2), spread(ratios, 2) if name != OURS else ""]
        cells += [f"{own[-1].memory / 1e6:.0f}", f"{share:.0%}" if name != OURS else ""]
        rows.append(f"| {' | '.join([*cells, f'{statistics.fmean(turn.loss for turn in own):.3f}'])} |")
    return "\n".join(rows)


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    steps = options.warmup + options.rounds * options.steps + 1  # so that no trainer comes to its end and says so
    given = Contest(options.recipe, tuple(options.set), options.out, options.threads, steps)
    plan = given.plan().train
    size = f"{plan.spec.parameters / 1e6:.0f}M parameters"
    print(f"{size}, {plan.adapter}, {plan.batch_rows} x {plan.context} tokens a step\n", flush=True)
    peers = [
        How(*values) for values in itertools.product(options.peers, options.weights, options.rows, options.allocator)
    ]
    turns = contest(options, given, peers)
    print(table(turns))
    record = provenance("tuning", device=CPU, threads=options.threads)
    keep({**record, "turns": {name: [turn._asdict() for turn in own] for name, own in turns.items()}}, options.results)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--set", nargs="*", default=[], help="changes of the recipe, as rhapsode's --set")
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=["peft", "trl"])
    parser.add_argument("--weights", nargs="+", choices=("bf16", "autocast"), default=["bf16", "autocast"])
    parser.add_argument("--rows", nargs="+", type=int, default=[4], help="sequences that peers compute at once, about")
    parser.add_argument("--allocator", nargs="+", choices=("shipped", "ours"), default=["shipped"])
    for name, default in {"rounds": 4, "steps": 2, "warmup": 1}.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default {default}")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--results", type=Path, default=Path("out/bench/tuning.jsonl"))
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
