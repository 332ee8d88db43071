"""What each choice of our training gives: held-out bits per byte at equal time, one thing changed at a time.

python bench/ablations.py --data DIR --speeds               # how fast each is, side by side, on a quiet machine
python bench/ablations.py --data DIR --run                  # every one, for as many tokens as it learns in that time
python bench/ablations.py --data DIR --run 'Muon*' --seeds 1
python bench/ablations.py --show
"""

import argparse
import fnmatch
import functools
import json
import multiprocessing
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from arena.arms import ARMS, PLAIN
from arena.figures import keep, provenance
from arena.held_out import HeldOut
from arena.mix import Mix, make_mix
from arena.ours import fresh_home, load_data, scores, settled
from arena.shape import Shape, add_shape_options, shape_of
from arena.turns import Running, Side, Step

from rhapsode.corpus.tokens import Tokens
from rhapsode.kernels.waiting import SPINS
from rhapsode.train.trainer import Trainer

CPU = torch.device("cpu")
NO_LOOKS = {"validate_every": 1_000_000}
LONG = 1_000_000


class Task(NamedTuple):
    """One arm to train, for so many tokens."""

    arm: str
    seed: int
    shape: Shape
    tokens_dir: Path
    tokens: int
    threads: int


def trainer_of(task: Task) -> Trainer:
    torch.set_num_threads(task.threads)
    arm, data = ARMS[task.arm], load_data(task.tokens_dir, context=task.shape.context)
    train = {"budget": f"{task.tokens} tokens", "seed": task.seed, **NO_LOOKS, **arm.train}
    plan = settled(arm.spec(task.shape), data, train=train, seed=task.seed)
    trainer = Trainer(arm.change(plan), data, device=CPU)
    arm.alter(trainer)
    return trainer


def start(task: Task) -> Running:
    trainer = trainer_of(task)

    def step() -> Step:
        result = trainer.step()
        return Step(result.tokens, result.loss)

    return Running(step, lambda: 0)


def measure(task: Task, *, rounds: int, seconds: float) -> dict[str, float]:
    """Tokens a second of the arms: the share of the plain one's in the same round, the median over all rounds."""
    own = [arm for arm in ARMS if not ARMS[arm].pace]
    sides = {arm: Side(functools.partial(start, task._replace(arm=arm)), environment={}) for arm in own}
    turns: dict[str, list[float]] = {arm: [] for arm in own}
    try:
        steps = {arm: max(2, round(seconds * side.run(2).speed / 4096)) for arm, side in sides.items()}
        for number in range(rounds):
            for arm in own if number % 2 == 0 else own[::-1]:
                turns[arm].append(sides[arm].run(steps[arm]).speed)
                print(f"  round {number + 1}: {turns[arm][-1]:7.0f} tokens/s {arm}", file=sys.stderr)
    finally:
        for side in sides.values():
            side.stop()
    plain = statistics.median(turns[PLAIN])
    shares = {arm: statistics.median(a / b for a, b in zip(turns[arm], turns[PLAIN], strict=True)) for arm in own}
    return {arm: round(plain * share, 1) for arm, share in shares.items()}


def speed_of(arm: str, measured: dict[str, float]) -> float:
    """Tokens a second, of parts of the run at the pace of other arms."""
    return 1 / sum(share / measured[name] for name, share in (ARMS[arm].pace or {arm: 1.0}).items())


def train(task: Task, facts: dict[str, Any], results: Path) -> None:
    """Run an arm to its end, however long that takes here, and keep what it came to."""
    trainer = trainer_of(task)
    held_out = HeldOut(Tokens.open(task.tokens_dir), context=task.shape.context, rows=8, device=CPU)
    begin, tokens = time.process_time(), 0
    while trainer.state.step < trainer.plan.steps:
        tokens += trainer.step().tokens
    spent = time.process_time() - begin
    bits = held_out(functools.partial(scores, trainer))
    record = provenance("ablations", device=CPU, threads=task.threads) | facts
    record |= {"arm": task.arm, "seed": task.seed, "tokens": tokens, "steps": trainer.plan.steps, "bits": bits}
    keep(record | {"processor_seconds": spent}, results)
    print(f"  {task.arm}, seed {task.seed}: {bits['all']:.4f} bits a byte, {tokens:,} tokens", file=sys.stderr)


def run(task: Task, facts: dict[str, Any], results: Path) -> None:
    """In a process of its own: arms change modules."""
    process = multiprocessing.get_context("spawn").Process(target=train, args=(task, facts, results))
    process.start()
    process.join()
    if process.exitcode:
        sys.exit(f"{task.arm} ended with code {process.exitcode}; what it said stands above")


def table(path: Path) -> str:
    """Every arm beside the plan as it is: what the change gives or costs, and the spread of repeats."""
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    runs: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        runs.setdefault(record["arm"], []).append(record)
    plain = {record["seed"]: record["bits"]["all"] for record in runs[PLAIN]}
    middle = statistics.mean(plain.values())
    lines = ["| changed | tokens/s | tokens | bits per byte | against the plan |", "| --- | --- | --- | --- | --- |"]
    for arm, found in sorted(runs.items(), key=lambda item: statistics.mean(r["bits"]["all"] for r in item[1])):
        bits = [record["bits"]["all"] for record in found]
        gain = statistics.mean(record["bits"]["all"] - plain.get(record["seed"], middle) for record in found)
        speed, tokens = found[0]["speed"], found[0]["tokens"] / 1e6
        cells = (arm, f"{speed:.0f}", f"{tokens:.2f}M", " and ".join(f"{b:.4f}" for b in bits), f"{gain:+.4f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    options = parse()
    if options.show:
        print(table(options.results))
        return
    os.environ |= {"GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", SPINS), "CUDA_VISIBLE_DEVICES": ""}
    shape = shape_of(options)
    mix = Mix(train=options.train_characters, held_out=options.held_out_characters, vocab=shape.vocab)
    tokens_dir = make_mix(options.data, mix, root=options.results.parent)
    task = Task(PLAIN, 0, shape, tokens_dir, LONG, options.threads)
    kept = options.results.with_name("ablation_speeds.json")
    if options.speeds:
        with fresh_home():
            speeds = measure(task, rounds=options.rounds, seconds=options.turn)
        kept.write_text(json.dumps(speeds, indent=1), encoding="utf-8")
        return
    speeds = json.loads(kept.read_text(encoding="utf-8"))
    facts = {"seconds": options.seconds, "size": options.size}
    wanted = [arm for arm in ARMS if any(fnmatch.fnmatch(arm, pattern) for pattern in options.run)]
    for seed in options.seeds:
        for arm in wanted:
            speed = speed_of(arm, speeds)
            one = task._replace(arm=arm, seed=seed, tokens=round(options.seconds * speed))
            with fresh_home():
                run(one, facts | {"speed": speed}, options.results)
    print(table(options.results))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_shape_options(parser)
    parser.add_argument("--data", type=Path, help="the folder with novels.jsonl.zst and the other sets")
    parser.add_argument("--speeds", action="store_true", help="measure how fast every arm is, and keep it")
    parser.add_argument("--run", nargs="*", metavar="PATTERN", help="arms to train; all if no pattern is given")
    parser.add_argument("--seconds", type=float, default=180.0, help="of training that each is worth; default 180")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--rounds", type=int, default=3, help="of the speeds; default 3")
    parser.add_argument("--turn", type=float, default=3.0, help="seconds of a turn, about; default 3")
    parser.add_argument("--train-characters", type=int, default=Mix().train, help="of every set")
    parser.add_argument("--held-out-characters", type=int, default=Mix().held_out, help="of every set, about")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--results", type=Path, default=Path("out/bench/ablations.jsonl"))
    parser.add_argument("--show", action="store_true", help="run nothing, show the table")
    options = parser.parse_args()
    options.run = options.run or ["*"]
    if options.data is None and not options.show:
        parser.error("--data is needed: the folder with novels.jsonl.zst and the other sets")
    return options


if __name__ == "__main__":
    main()
