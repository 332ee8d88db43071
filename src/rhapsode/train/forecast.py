"""What a run will cost, from two real steps of it.

The steps use the real model, the real rows and the real optimizer, and are then thrown away. The first pays for memory
that the later ones reuse, so the second is the one that counts.
"""

import resource
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

import torch

from rhapsode.kernels.peak import measure_peak_flops
from rhapsode.train.plan import TrainPlan
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

    Float32 master, gradient and one or two moments, and the copy that computes with its own gradient.
    """
    moments = 2 if plan.optimizer == "adamw" else 1
    compute = PRECISIONS[plan.precision].itemsize
    return plan.spec.parameters * (4 * (2 + moments) + 2 * compute)


def disk_bytes(plan: TrainPlan) -> int:
    """The most that checkpoints occupy at once: those that are kept, and one more while it is written."""
    embedding = plan.spec.vocab_size * plan.spec.width
    muon = plan.optimizer == "muon"
    moments = plan.spec.parameters + embedding if muon else 2 * plan.spec.parameters
    return 4 * (plan.spec.parameters + moments) * (plan.keep + 1)


def forecast(plan: TrainPlan, data: Data, *, device: torch.device) -> Forecast:
    """Take two real steps and extrapolate."""
    trainer = Trainer(plan, data, device=device)
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
