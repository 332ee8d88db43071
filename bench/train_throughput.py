"""Tokens a second of our training step beside transformers' Llama of the same shape, on the same batch.

Two processes live side by side and take turns, a few steps each, so that whatever disturbs the machine hits both.
Every peer meets us in a pair of its own. Both sides use AdamW, clip the norm of the gradient at 1 and read every loss.

    python bench/train_throughput.py
    python bench/train_throughput.py --depth 8 --width 640 --vocab 32768 --rounds 5
"""

import argparse
import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from rhapsode import __version__
from rhapsode.core.machine import examine
from rhapsode.kernels.allocator import keep_freed_memory
from rhapsode.kernels.peak import measure_peak_flops
from rhapsode.model.families.registry import spec_from_config
from rhapsode.model.size import Ids, own_config
from rhapsode.model.spec import ModelSpec

CLIP, RATE = 1.0, 1e-3
REST_SECONDS = 0.3  # a process that has done its turn goes on spinning for a moment

Step = Callable[[], float]


class Peer(NamedTuple):
    """A plain loop around transformers: weights in `dtype`, autocast or not, with our allocator settings or its own."""

    dtype: torch.dtype
    autocast: bool
    keeps_memory: bool


PEERS = {
    "bf16": Peer(torch.bfloat16, autocast=False, keeps_memory=False),
    "bf16+malloc": Peer(torch.bfloat16, autocast=False, keeps_memory=True),
    "autocast": Peer(torch.float32, autocast=True, keeps_memory=False),
    "autocast+malloc": Peer(torch.float32, autocast=True, keeps_memory=True),
}


@dataclass(frozen=True)
class Shape:
    """The model, the batch and the threads that both sides get."""

    depth: int
    width: int
    vocab: int
    heads: int
    kv_heads: int
    ffn: int
    tied: bool
    rows: int
    context: int
    threads: int

    def spec(self) -> ModelSpec:
        return spec_from_config(
            own_config(
                "llama",
                ids=Ids(self.vocab, bos=0, eos=1, pad=2),
                width=self.width,
                depth=self.depth,
                heads=self.heads,
                kv_heads=self.kv_heads,
                head_dim=self.width // self.heads,
                ffn=self.ffn,
                context=self.context,
                tied=self.tied,
            )
        )

    def ids(self) -> Tensor:
        random = torch.Generator().manual_seed(0)
        return torch.randint(0, self.vocab, (self.rows, self.context + 1), generator=random)


def our_step(shape: Shape) -> Step:
    """The step as `rhapsode train` runs it: bf16 model, fp32 masters, its own micro-batches and allocator settings."""
    from rhapsode.model.decoder import Decoder
    from rhapsode.model.initialise import initialise
    from rhapsode.train.config import TrainConfig
    from rhapsode.train.objective import Batch, next_token
    from rhapsode.train.plan import settle
    from rhapsode.train.step import Masters, train_step
    from rhapsode.train.trainer import PRECISIONS, make_optimizer

    keep_freed_memory()
    tokens, num_rows = shape.rows * shape.context, 1_000_000
    config = TrainConfig.model_validate(
        {"budget": "1000 steps", "batch_tokens": tokens, "optimizer": "adamw", "learning_rate": RATE, "clip": CLIP}
    )
    targets = num_rows * shape.context
    spec = shape.spec()
    plan, _ = settle(
        config,
        spec,
        init_seed=0,
        base=None,
        stops=spec.eos,
        context=shape.context,
        num_rows=num_rows,
        num_targets=targets,
    )
    model = Decoder(spec)
    initialise(model, seed=0)
    masters = Masters(model)
    model.to(PRECISIONS[plan.precision])
    optimizer = make_optimizer(plan, masters)
    ids = shape.ids()
    positions = torch.arange(shape.context).expand(shape.rows, -1)
    batch = Batch(ids[:, :-1], ids[:, 1:], positions, torch.ones_like(positions))

    def step() -> float:
        parts = batch.split(plan.micro_batch_rows)
        return train_step(
            model, parts, objective=next_token, masters=masters, optimizer=optimizer, scale=1.0, clip=plan.clip
        ).loss

    return step


def their_step(shape: Shape, peer: Peer) -> Step:
    """A plain loop around LlamaForCausalLM, with the fused AdamW that its Trainer takes by default."""
    from transformers import LlamaConfig, LlamaForCausalLM

    if peer.keeps_memory:
        keep_freed_memory()
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig.from_dict(dict(shape.spec().config))).to(peer.dtype).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    ids = shape.ids()
    inputs, targets = ids[:, :-1].contiguous(), ids[:, 1:].contiguous()

    def step() -> float:
        with torch.autocast("cpu", torch.bfloat16, enabled=peer.autocast):
            # shift_labels: these are the ids to predict already, one for each input as on our side
            loss = model(input_ids=inputs, labels=targets, shift_labels=targets, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach())

    return step


def serve(channel: Connection, shape: Shape, peer: Peer | None) -> None:
    """A side: for every number received, run so many steps and tell the seconds and the last loss."""
    torch.set_num_threads(shape.threads)
    step = our_step(shape) if peer is None else their_step(shape, peer)
    while steps := channel.recv():
        start, loss = time.perf_counter(), 0.0
        for _ in range(steps):
            loss = step()
        channel.send((time.perf_counter() - start, loss))


class Side:
    """A long-lived process that runs steps when told to."""

    def __init__(self, shape: Shape, peer: Peer | None) -> None:
        context = multiprocessing.get_context("spawn")
        self._channel, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, shape, peer), daemon=True)
        self._process.start()
        theirs.close()

    def run(self, steps: int) -> tuple[float, float]:
        """Seconds a step, and the loss of the last one."""
        self._channel.send(steps)
        seconds, loss = self._channel.recv()
        time.sleep(REST_SECONDS)
        return seconds / steps, loss

    def stop(self) -> None:
        self._channel.send(0)
        self._process.join()


class Meeting(NamedTuple):
    """Tokens a second of both in every round, and the last losses."""

    peer: str
    ours: list[float]
    theirs: list[float]
    losses: tuple[float, float]

    @property
    def ratios(self) -> list[float]:
        return [a / b for a, b in zip(self.ours, self.theirs, strict=True)]


def meet(name: str, shape: Shape, *, rounds: int, steps: int, warmup: int) -> Meeting:
    tokens = shape.rows * shape.context
    sides = Side(shape, None), Side(shape, PEERS[name])
    try:
        for side in sides:
            side.run(warmup)
        speeds: tuple[list[float], list[float]] = ([], [])
        losses = [0.0, 0.0]
        for turn in range(rounds):
            for which in (0, 1) if turn % 2 == 0 else (1, 0):
                seconds, losses[which] = sides[which].run(steps)
                speeds[which].append(tokens / seconds)
            print(f"  {name} round {turn + 1}: {speeds[0][-1]:.0f} | {speeds[1][-1]:.0f} tok/s", file=sys.stderr)
    finally:
        for side in sides:
            side.stop()
    return Meeting(name, *speeds, (losses[0], losses[1]))


def spread(values: list[float], digits: int) -> str:
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{middle:.{digits}f} [{low:.{digits}f}-{high:.{digits}f}]"


def show(meetings: list[Meeting], shape: Shape, peak: float) -> None:
    spec = shape.spec()
    per_token = spec.flops_per_token(shape.context)
    print(
        f"\n{spec.parameters / 1e6:.1f}M parameters, {shape.rows} x {shape.context} tokens, {shape.threads} threads, ",
        end="",
    )
    print(f"torch {torch.__version__}, bf16 product {peak / 1e9:.0f} GFLOP/s; median [min-max]\n")
    print("| transformers | Rhapsode tok/s | transformers tok/s | ratio | utilisation | loss ours / theirs |")
    print("| --- | --- | --- | --- | --- | --- |")
    for meeting in meetings:
        used = " / ".join(f"{statistics.median(v) * per_token / peak:.0%}" for v in (meeting.ours, meeting.theirs))
        row = (meeting.peer, spread(meeting.ours, 0), spread(meeting.theirs, 0), spread(meeting.ratios, 2), used)
        print(f"| {' | '.join(row)} | {meeting.losses[0]:.3f} / {meeting.losses[1]:.3f} |")
    record = {
        "bench": "train_throughput",
        "shape": asdict(shape),
        "parameters": spec.parameters,
        "peak_gflops": round(peak / 1e9, 1),
        "torch": torch.__version__,
        "rhapsode": __version__,
        "machine": examine(Path()).processor,
        "command": " ".join(sys.argv),
        "meetings": [{**m._asdict(), "ratio": statistics.median(m.ratios)} for m in meetings],
    }
    print("\n" + json.dumps(record))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    numbers = {"depth": 6, "width": 384, "vocab": 8192, "rows": 8, "context": 512, "rounds": 7, "steps": 4, "warmup": 2}
    for name, default in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default {default}")
    parser.add_argument("--heads", type=int, help="default: width / 64")
    parser.add_argument("--kv-heads", type=int, help="default: as many as heads")
    parser.add_argument("--ffn", type=int, help="default: 8/3 of the width, a multiple of 32")
    parser.add_argument("--untied", action="store_true", help="a vocabulary projection of its own")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS))
    options = parser.parse_args()
    heads = options.heads or options.width // 64
    shape = Shape(
        depth=options.depth,
        width=options.width,
        vocab=options.vocab,
        heads=heads,
        kv_heads=options.kv_heads or heads,
        ffn=options.ffn or round(options.width * 8 / 3 / 32) * 32,
        tied=not options.untied,
        rows=options.rows,
        context=options.context,
        threads=options.threads,
    )
    torch.set_num_threads(shape.threads)
    peak = measure_peak_flops(torch.bfloat16, device=torch.device("cpu"))
    print(
        f"measuring {', '.join(options.peers)}: {options.rounds} rounds of {options.steps} steps each", file=sys.stderr
    )
    meetings = [
        meet(name, shape, rounds=options.rounds, steps=options.steps, warmup=options.warmup) for name in options.peers
    ]
    show(meetings, shape, peak)


if __name__ == "__main__":
    main()
