"""What a run will cost, from two real steps of it.

The steps use the real model, the real rows and the real optimizer, and are then thrown away. The first pays for memory
that the later ones reuse, so the second is the one that counts.
"""

import math
import resource
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from rhapsode.core.energy import find_meter
from rhapsode.kernels.cross_entropy import CHUNK
from rhapsode.kernels.peak import measure_peak_flops
from rhapsode.model.parameters import shapes
from rhapsode.train.masters import matrix_parts
from rhapsode.train.plan import TrainPlan
from rhapsode.train.ranks.ranks import ALONE, Ranks
from rhapsode.train.trainer import PRECISIONS, Data, Trainer

STEPS = 2
SPEED_STEPS, SPEED_SECONDS = 3, 5.0


@dataclass(frozen=True)
class Forecast:
    """Seconds for all steps, tokens a second, share of the measured peak; bytes of memory and disk at the peak.

    `joules` for all steps are "measured", or the "estimate" of `core/energy.py`.
    """

    seconds: float
    tokens_per_second: float
    utilisation: float
    peak_flops: float
    memory_bytes: int
    disk_bytes: int
    joules: float | None = None
    joules_are: str = ""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def memory_floor(plan: TrainPlan) -> int:
    """Bytes that weights, gradients and optimizer need whatever the batch: known before anything is allocated.

    Float32 master, gradient and moments, the copy that computes with its own gradient, and what the loss keeps beside
    it: the projection's gradient in float32, and the scores of a chunk. With a large vocabulary that is no small part.
    Last, what it takes to save while training goes on.
    """
    compute = PRECISIONS[plan.precision].itemsize
    spec = plan.spec
    scored = min(CHUNK, plan.micro_batch_rows * plan.context)
    loss = spec.vocab_size * (4 * spec.width + compute * scored)
    return spec.parameters * (4 * 2 + 2 * compute) + 4 * moments(plan) + loss + saving_bytes(plan)


def saving_bytes(plan: TrainPlan) -> int:
    """Memory for saving while training goes on: a copy of masters and moments, and the model that gives evidence."""
    return 4 * (2 * plan.spec.parameters + moments(plan))


def disk_bytes(plan: TrainPlan) -> int:
    """The most that checkpoints occupy at once: those that stay, and one more while it is written."""
    steps, often, every = plan.steps, plan.save_every, plan.keep_every or plan.steps + 1
    at_once = plan.keep + 1 + steps // every + 1  # the newest, the best, those for good, the one that is written
    in_all = (steps - 1) // often + (steps - 1) // every - (steps - 1) // math.lcm(often, every) + 1
    return 4 * (plan.spec.parameters + moments(plan)) * min(at_once, in_all)


def moments(plan: TrainPlan) -> int:
    """Numbers that the optimizer remembers: two a parameter under AdamW, one where Muon moves it."""
    spec = plan.spec
    if plan.optimizer == "adamw":
        return 2 * spec.parameters
    matrices = (shape for name, shape in shapes(spec).items() if matrix_parts(name, shape, spec) is not None)
    return 2 * spec.parameters - sum(map(math.prod, matrices))


def forecast(
    plan: TrainPlan, data: Data, *, device: torch.device, base: Path | None = None, ranks: Ranks = ALONE
) -> Forecast:
    """Take two real steps and extrapolate."""
    trainer = Trainer(plan, data, device=device, base=base, ranks=ranks)
    seconds, tokens = 0.0, 0
    meter = find_meter(cards=cards(device))
    before = now = meter.read()
    for _ in range(STEPS):
        before, start = meter.read(), time.perf_counter()
        tokens = trainer.step().tokens
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds, now = time.perf_counter() - start, meter.read()
    peak = ranks.sum([measure_peak_flops(PRECISIONS[plan.precision], device=device)])[0]
    speed = tokens / seconds
    return Forecast(
        seconds=seconds * plan.steps,
        tokens_per_second=speed,
        utilisation=speed * plan.spec.flops_per_token(plan.context) / peak,
        peak_flops=peak,
        memory_bytes=peak_memory(device) + (saving_bytes(plan) if device.type == "cpu" else 0),
        disk_bytes=disk_bytes(plan),
        joules=(now.joules - before.joules) * plan.steps,
        joules_are=now.are,
    )


def measure_speed(plan: TrainPlan, data: Data, *, device: torch.device, base: Path | None = None) -> float:
    """Tokens a second that a step learns from: the median of some real steps, the first one left out."""
    trainer = Trainer(plan, data, device=device, base=base)
    speeds: list[float] = []
    trainer.step()
    end = time.perf_counter() + SPEED_SECONDS
    while len(speeds) < SPEED_STEPS or time.perf_counter() < end:
        start = time.perf_counter()
        tokens = trainer.step().tokens  # its loss has been read, so a GPU has come to the end of it
        speeds.append(tokens / (time.perf_counter() - start))
    return statistics.median(speeds)


def cards(device: torch.device) -> list[str]:
    """The name by which the driver knows the GPU, if it is one of NVIDIA's."""
    if device.type != "cuda" or torch.version.hip is not None:
        return []
    return [f"GPU-{torch.cuda.get_device_properties(device).uuid}"]


def peak_memory(device: torch.device) -> int:
    """The most bytes that this process ever held, on the GPU where there is one."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
