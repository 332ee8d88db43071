"""What a run will cost, from two real steps of it.

The steps use the real model, the real rows and the real optimizer, and are then thrown away. The first pays for memory
that the later ones reuse, so the second is the one that counts.
"""

import math
import resource
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from rhapsode.kernels.cross_entropy import CHUNK
from rhapsode.kernels.peak import measure_peak_flops
from rhapsode.model.parameters import shapes
from rhapsode.train.plan import TrainPlan
from rhapsode.train.step import matrix_parts
from rhapsode.train.trainer import PRECISIONS, Data, Trainer

STEPS = 2


@dataclass(frozen=True)
class Forecast:
    """Seconds for all steps, tokens a second, share of the measured peak; bytes of memory and disk at the peak."""

    seconds: float
    tokens_per_second: float
    utilisation: float
    peak_flops: float
    memory_bytes: int
    disk_bytes: int

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def memory_floor(plan: TrainPlan) -> int:
    """Bytes that weights, gradients and optimizer need whatever the batch: known before anything is allocated.

    Float32 master, gradient and moments, the copy that computes with its own gradient, and what the loss keeps beside
    it: the projection's gradient in float32, and the scores of a chunk. With a large vocabulary that is no small part.
    """
    compute = PRECISIONS[plan.precision].itemsize
    spec = plan.spec
    scored = min(CHUNK, plan.micro_batch_rows * plan.context)
    loss = spec.vocab_size * (4 * spec.width + compute * scored)
    return spec.parameters * (4 * 2 + 2 * compute) + 4 * moments(plan) + loss


def disk_bytes(plan: TrainPlan) -> int:
    """The most that checkpoints occupy at once: those that are kept, and one more while it is written."""
    return 4 * (plan.spec.parameters + moments(plan)) * (plan.keep + 1)


def moments(plan: TrainPlan) -> int:
    """Numbers that the optimizer remembers: two a parameter under AdamW, one where Muon moves it."""
    spec = plan.spec
    if plan.optimizer == "adamw":
        return 2 * spec.parameters
    matrices = (shape for name, shape in shapes(spec).items() if matrix_parts(name, shape, spec) is not None)
    return 2 * spec.parameters - sum(map(math.prod, matrices))


def forecast(plan: TrainPlan, data: Data, *, device: torch.device, base: Path | None = None) -> Forecast:
    """Take two real steps and extrapolate."""
    trainer = Trainer(plan, data, device=device, base=base)
    seconds, tokens = 0.0, 0
    for _ in range(STEPS):
        start = time.perf_counter()
        tokens = trainer.step().tokens
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - start
    peak = measure_peak_flops(PRECISIONS[plan.precision], device=device)
    speed = tokens / seconds
    return Forecast(
        seconds=seconds * plan.steps,
        tokens_per_second=speed,
        utilisation=speed * plan.spec.flops_per_token(plan.context) / peak,
        peak_flops=peak,
        memory_bytes=_peak_memory(device),
        disk_bytes=disk_bytes(plan),
    )


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
