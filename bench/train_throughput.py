"""Tokens a second and peak memory of our training step beside other software, the same shape and the same texts.

python bench/train_throughput.py                                     # 15M parameters, 8 rows of 512 tokens
python bench/train_throughput.py --size 60m --steps 2
python bench/train_throughput.py --peers 'transformers:*' --context 2048 --rows 2
python bench/train_throughput.py --documents 6                       # short documents, several in a row
"""

import argparse
import functools
import os
import statistics
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from arena.documents import Stream, write_documents
from arena.figures import keep, peak_memory, product_ceiling, provenance, spread
from arena.gpu import TREATMENTS, treated
from arena.ours import fresh_home, load_data, settled
from arena.shape import Shape, add_shape_options, shape_of
from arena.turns import Meeting, Running, Side, Step, meet
from peers.loop import CLIP, Habits, Loop
from peers.registry import DEFAULT, Variant, build, variants

from rhapsode.corpus.tokens import Tokens
from rhapsode.kernels.allocator import keep_freed_memory
from rhapsode.kernels.waiting import SPINS
from rhapsode.train.plan import TrainPlan

RATE = 1e-3
SAME_FOR_ALL = Habits(RATE, (0.9, 0.95), 0.1, "constant", 1.0, 0.0, decays_all=False)


class Contest(NamedTuple):
    """What both sides are told."""

    shape: Shape
    tokens_dir: Path
    rows: int
    device: str
    threads: int


def start_ours(contest: Contest, plan: TrainPlan, treatments: tuple[str, ...]) -> Running:
    torch.set_num_threads(contest.threads)
    device = torch.device(contest.device)
    data = load_data(contest.tokens_dir, context=contest.shape.context)
    trainer = treated(plan, data, device=device, by=treatments)

    def step() -> Step:
        result = trainer.step()
        return Step(result.tokens, result.loss)

    return Running(step, functools.partial(peak_memory, device))


def start_theirs(contest: Contest, variant: Variant) -> Running:
    torch.set_num_threads(contest.threads)
    if variant.allocator == "ours":
        keep_freed_memory()
    device, shape = torch.device(contest.device), contest.shape
    loop = Loop(build(variant.peer)(shape, seed=0), how=variant.how, habits=SAME_FOR_ALL, device=device)
    split = Tokens.open(contest.tokens_dir).split("train")
    stream = Stream(split, context=shape.context, rows=contest.rows, seed=0)
    done = iter(range(sys.maxsize))

    def step() -> Step:
        rows = torch.from_numpy(stream(next(done)))
        return Step(contest.rows * shape.context, loop.step(rows))

    return Running(step, functools.partial(peak_memory, device))


def our_plan(options: argparse.Namespace, given: Contest) -> TrainPlan:
    """What `rhapsode plan` settles here, with the batch and the rate of the peers, who have no schedule."""
    train: dict[str, Any] = {"budget": "100000 steps", "batch_tokens": given.rows * given.shape.context}
    train |= {"optimizer": options.optimizer, "clip": CLIP, "warmup": 0, "decay": 0}
    if options.optimizer == "adamw":
        train["learning_rate"] = RATE
    if options.micro_batch_rows:
        train["micro_batch_rows"] = options.micro_batch_rows
    data = load_data(given.tokens_dir, context=given.shape.context)
    return settled(given.shape.spec(), data, train=train, seed=0)


def contest(options: argparse.Namespace, variant: Variant, given: Contest, plan: TrainPlan) -> Meeting:
    ours = functools.partial(start_ours, given, plan, tuple(options.ours))
    sides: list[Side] = []
    try:
        # The way of waiting that `rhapsode` sets for itself; the peers wait as OpenMP does.
        sides.append(Side(ours, environment={"GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", SPINS)}))
        sides.append(Side(functools.partial(start_theirs, given, variant), environment={}))
        return meet(*sides, rounds=options.rounds, steps=options.steps, warmup=options.warmup)
    finally:
        for side in sides:
            side.stop()


def table(meetings: dict[Variant, Meeting], *, per_token: float, peak: float) -> str:
    lines = [
        "| peer | weights | mode | allocator | Rhapsode tok/s | peer tok/s | ratio | utilisation | memory MB | share |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for variant, (ours, theirs) in meetings.items():
        speeds = [[turn.speed for turn in turns] for turns in (ours, theirs)]
        used = " / ".join(f"{statistics.median(speed) * per_token / peak:.0%}" for speed in speeds)
        memory = [turns[-1].memory / 1e6 for turns in (ours, theirs)]
        cells = [*variant, *(spread(speed, 0) for speed in speeds), spread(meetings[variant].ratios, 2), used]
        cells += [f"{memory[0]:.0f} / {memory[1]:.0f}", f"{memory[0] / memory[1]:.0%}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    options = parse()
    if options.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    shape, device = shape_of(options), torch.device(options.device)
    wanted = variants(options.peers)
    if not wanted:
        sys.exit(f"no peer that is installed matches {' '.join(options.peers)}; see bench/README.md")
    torch.set_num_threads(options.threads)
    peak = product_ceiling(device)
    meetings: dict[Variant, Meeting] = {}
    with tempfile.TemporaryDirectory() as folder, fresh_home():
        tokens = write_documents(Path(folder) / "tokens", shape, rows=options.rows, per_row=options.documents)
        given = Contest(shape, tokens, options.rows, options.device, options.threads)
        plan = our_plan(options, given)
        for variant in wanted:
            print(variant, file=sys.stderr)
            meetings[variant] = contest(options, variant, given, plan)
    spec = shape.spec()
    print(
        f"\n{spec.parameters / 1e6:.1f}M parameters, {options.rows} x {shape.context} tokens, {options.documents} "
        f"document(s) a row, {options.threads} threads, torch {torch.__version__}, bf16 product {peak / 1e9:.0f} "
        f"GFLOP/s; median [min-max]\n"
    )
    print(table(meetings, per_token=spec.flops_per_token(shape.context), peak=peak))
    record = provenance("train_throughput", device=device, threads=options.threads)
    record |= {"shape": asdict(shape), "parameters": spec.parameters, "rows": options.rows, "peak_flops": peak}
    record |= {"documents": options.documents, "treatments": options.ours}
    record["ours"] = {name: getattr(plan, name) for name in ("optimizer", "precision", "micro_batch_rows")}
    record["meetings"] = {
        str(v): {"ours": [t._asdict() for t in m.ours], "theirs": [t._asdict() for t in m.theirs], "ratios": m.ratios}
        for v, m in meetings.items()
    }
    keep(record, options.results)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_shape_options(parser)
    numbers = {"rows": 8, "documents": 1, "rounds": 5, "steps": 4, "warmup": 2}
    for name, default in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default {default}")
    parser.add_argument("--micro-batch-rows", type=int, help="of ours; the plan's own if absent")
    parser.add_argument("--optimizer", choices=("adamw", "muon"), default="adamw", help="of ours; peers take AdamW")
    parser.add_argument("--ours", nargs="*", choices=TREATMENTS, default=[], help="treatments of ours, on a GPU")
    parser.add_argument(
        "--peers", nargs="+", default=[DEFAULT], help=f"patterns of peer:weights:mode:allocator; {DEFAULT}"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--results", type=Path, default=Path("out/bench/train_throughput.jsonl"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
