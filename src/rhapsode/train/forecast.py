"""What a run will cost, from some real steps of it.

The steps use the real model, the real rows and the real optimizer, and are then thrown away.
"""

import math
import resource
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from rhapsode.core.energy import find_meter
from rhapsode.corpus.packing import Packing
from rhapsode.kernels.cross_entropy import chunk_of
from rhapsode.kernels.peak import measure_peak_flops
from rhapsode.kernels.scores import AT_ONCE
from rhapsode.model.parameters import shapes
from rhapsode.model.spec import ModelSpec
from rhapsode.train.masters import height_of
from rhapsode.train.objectives.registry import needs_reference, own_share, samples_answers
from rhapsode.train.plan import TrainPlan
from rhapsode.train.ranks.ranks import ALONE, Ranks
from rhapsode.train.trainer import PRECISIONS, Data, Trainer
from rhapsode.weights.adapter import slots


class Length(NamedTuple):
    """How long to take steps for: until one of the two is reached."""

    seconds: float
    steps: int


TO_FORECAST, TO_KNOW = Length(2.0, 8), Length(5.0, 100)
"""A forecast may be wrong by what a machine wavers; a budget in minutes should not be."""


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
    A teacher with what is scored beside it. Last, what it takes to save while training goes on.
    """
    compute = PRECISIONS[plan.precision].itemsize
    spec, is_frozen = plan.spec, plan.adapter is not None
    scored = min(chunk_of(max(1, spec.num_scores)), plan.micro_batch_rows * plan.context)
    has_rows = plan.adapter is None or bool(plan.adapter.tokens)
    loss = spec.num_scores * ((4 * spec.width if has_rows else 0) + compute * scored)
    weights = compute * spec.parameters if plan.storage in (None, "bf16") else spec.parameters // 2
    copies = 2 if needs_reference(plan.objective) and not is_frozen else 1
    own = trained(plan) * (4 * 2 + compute) + weights * copies + 4 * moments(plan) + loss
    return own + _teacher_bytes(plan) + saving_bytes(plan)


def _teacher_bytes(plan: TrainPlan) -> int:
    """Its weights, and what the divergence makes of a chunk in float32: scores and logarithms of both, and a slope."""
    if plan.teacher is None:
        return 0
    spec = plan.teacher.spec
    scored = min(max(1, AT_ONCE // spec.vocab_size), plan.micro_batch_rows * plan.context)
    return PRECISIONS[plan.precision].itemsize * spec.parameters + 5 * 4 * scored * spec.vocab_size


def trained(plan: TrainPlan) -> int:
    """Numbers that are trained: all of the model, or those of its adapter."""
    if plan.adapter is None:
        return plan.spec.parameters
    return sum(math.prod(slot.shape) for slot in slots(plan.spec, plan.adapter).values())


def saving_bytes(plan: TrainPlan) -> int:
    """Memory for saving while training goes on: a copy of masters and moments, and the model that gives evidence."""
    proof = plan.spec.parameters if plan.adapter is None else 0
    return 4 * (trained(plan) + proof + moments(plan))


def disk_bytes(plan: TrainPlan) -> int:
    """The most that checkpoints occupy at once: those that stay, and one more while it is written."""
    steps, often, every = plan.steps, plan.save_every, plan.keep_every or plan.steps + 1
    at_once = plan.keep + 1 + steps // every + 1  # the newest, the best, those for good, the one that is written
    in_all = (steps - 1) // often + (steps - 1) // every - (steps - 1) // math.lcm(often, every) + 1
    merged = 2 * plan.spec.parameters if plan.adapter is not None else 0
    return 4 * (trained(plan) + moments(plan)) * min(at_once, in_all) + merged


def moments(plan: TrainPlan) -> int:
    """Numbers that the optimizer remembers: two a parameter under AdamW, one where Muon moves it."""
    spec = plan.spec
    if plan.optimizer == "adamw":
        return 2 * trained(plan)
    if plan.adapter is not None:  # A and B are matrices; DoRA's magnitudes are few
        return trained(plan)
    matrices = (shape for name, shape in shapes(spec).items() if height_of(name, shape, spec) is not None)
    return 2 * spec.parameters - sum(map(math.prod, matrices))


def forecast(
    plan: TrainPlan,
    data: Data,
    *,
    device: torch.device,
    base: Path | None = None,
    teacher: Path | None = None,
    ranks: Ranks = ALONE,
) -> Forecast:
    """Take some real steps and extrapolate."""
    trainer = Trainer(plan, data, device=device, base=base, teacher=teacher, ranks=ranks)
    pace = _pace(trainer, length=TO_FORECAST)
    peak = ranks.sum([measure_peak_flops(PRECISIONS[plan.precision], device=device)])[0]
    return Forecast(
        seconds=pace.seconds * plan.steps,
        tokens_per_second=pace.tokens_per_second,
        utilisation=pace.tokens_per_second * operations_per_token(plan, data.training) / peak,
        peak_flops=peak,
        memory_bytes=peak_memory(device) + (saving_bytes(plan) if device.type == "cpu" else 0),
        disk_bytes=disk_bytes(plan),
        joules=pace.joules * plan.steps,
        joules_are=pace.joules_are,
    )


def operations_per_token(plan: TrainPlan, training: Packing) -> float:
    """What a learned token costs, those that are only read included: they need no projection to the vocabulary.

    Frozen weights need no gradient of their own, so of three products two are left; a reference adds one forward, and
    so does a teacher, of its own size. Of blocks below the adapter there is no way back, and their way there is the
    reference's too. Of answers that are sampled, each token is computed once more; if they are all that is learned,
    prompts are not counted, as nobody knows beforehand how many tokens share their cost.
    """
    beside = 1 / 3 if needs_reference(plan.objective) else 0
    share = (2 / 3 if plan.adapter is not None else 1) + beside + own_share(plan.objective) / 3
    read = training.num_places / max(1, training.num_targets)
    if samples_answers(plan.objective):
        share, read = share + 1 / 3, 1.0
    once = min(plan.adapter.layers or (0,)) / len(plan.spec.layers) if plan.adapter is not None else 0
    blocks, head = _operations(plan.spec, plan.context)
    found = (share - once * (1 / 3 + beside)) * blocks * read + share * head
    if plan.teacher is None:
        return found
    blocks, head = _operations(plan.teacher.spec, plan.context)
    return found + (blocks * read + head) / 3


def _operations(spec: ModelSpec, context: int) -> tuple[float, float]:
    """Of a token in the blocks and in the projection, forward and back, where all weights are trained."""
    head = 6 * spec.num_scores * spec.width
    return spec.flops_per_token(context) - head, head


def measure_speed(
    plan: TrainPlan, data: Data, *, device: torch.device, base: Path | None = None, teacher: Path | None = None
) -> float:
    """Tokens a second that steps of this plan learn from; of sampled answers, as if each were as long as it may be."""
    pace = _pace(Trainer(plan, data, device=device, base=base, teacher=teacher), length=TO_KNOW)
    if samples_answers(plan.objective):
        most: int = plan.objective["answers"] * plan.objective["max_tokens"]
        return plan.batch_rows * most / pace.seconds
    return pace.tokens_per_second


class Pace(NamedTuple):
    """Of one step: the median of its time and its energy."""

    seconds: float
    tokens_per_second: float
    joules: float
    joules_are: str


class _Took(NamedTuple):
    """What a step took, and whether it learned from the model's own answers."""

    seconds: float
    tokens: int
    is_own: bool


def _pace(trainer: Trainer, *, length: Length) -> Pace:
    """Take steps for so long, at least one beside the first, which pays for memory that the later ones reuse."""
    device, share = trainer.model.embedding.weight.device, own_share(trainer.plan.objective)
    kinds = [(is_own, part) for is_own, part in ((False, 1 - share), (True, share)) if part]
    meter = find_meter(cards=cards(device))
    steps: list[_Took] = []
    trainer.step()
    before = meter.read()
    while trainer.ranks.any(
        len({step.is_own for step in steps}) < len(kinds)
        # a step of sampled answers may have nothing to learn from, and is then no measure
        or (len(steps) < length.steps and (_seconds(steps) < length.seconds or not any(s.tokens for s in steps)))
    ):
        begin = time.perf_counter()
        result = trainer.step()  # its loss has been read, so a GPU has come to the end of it
        is_own = bool(result.measures.get("own"))
        steps.append(_Took(time.perf_counter() - begin, result.tokens, is_own))
    now = meter.read()
    seconds, tokens = 0.0, 0.0
    for is_own, part in kinds:
        of_kind = [step for step in steps if step.is_own is is_own]
        each = part * statistics.median(step.seconds for step in of_kind)
        seconds, tokens = seconds + each, tokens + each * statistics.median(s.tokens / s.seconds for s in of_kind)
    return Pace(seconds, tokens / seconds, (now.joules - before.joules) / len(steps), now.are)


def _seconds(steps: Sequence[_Took]) -> float:
    return sum(step.seconds for step in steps)


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
