"""What a run tells of itself: "step" events with speed, energy and time left, and at the end what it has spent."""

from pathlib import Path

import torch

from rhapsode.core.energy import Meter, find_meter
from rhapsode.core.events import Events
from rhapsode.core.manifest import num_bytes
from rhapsode.train.forecast import cards, peak_memory
from rhapsode.train.plan import TrainPlan
from rhapsode.train.step import StepResult
from rhapsode.train.time_left import Clock
from rhapsode.weights.checkpoint import TrainingState
from rhapsode.weights.names import checkpoints

SMOOTHING = 0.05
"""What a new step counts for in the smoothed loss, once there were twenty."""


class Reporter:
    """One part of a run: from its beginning, or from where it is resumed, to its end or to where it stops.

    Args:
        operations: that a learned token costs.
        peak_flops: what the machine reaches in a matrix product, the unit of "utilisation".
        run_dir: where the checkpoints lie.
    """

    def __init__(
        self,
        plan: TrainPlan,
        events: Events,
        *,
        operations: float,
        peak_flops: float,
        run_dir: Path,
        device: torch.device,
        clock: Clock | None = None,
        meter: Meter | None = None,
    ) -> None:
        self._plan, self._events, self._dir, self._device = plan, events, run_dir, device
        self._share_per_token = operations / peak_flops
        self._clock = clock or make_clock(plan)
        self._meter = meter or find_meter(cards=cards(device))
        self._seen, self._tokens, self._step_seconds, self._loss = 0, 0, 0.0, 0.0
        self._sizes: dict[str, int] = {}
        self._disk = 0

    def begin(self) -> None:
        """The work of this part begins now."""
        self._sizes = checkpoint_sizes(self._dir)
        self._clock.begin()

    def step(self, state: TrainingState, result: StepResult, *, seconds: float, learning_rate: float) -> None:
        """A step was taken, or left out, in these seconds."""
        self._clock.lap("steps", step=state.step)
        self._seen += 1
        if result.moved:
            share = max(SMOOTHING, 1 / self._seen)
            self._loss += share * (result.loss - self._loss)
        self._tokens, self._step_seconds = self._tokens + result.tokens, self._step_seconds + seconds
        speed = result.tokens / (self._clock.step_seconds or seconds)
        self._events.emit(
            "step",
            step=state.step,
            steps=self._plan.steps,
            loss=result.loss,
            smooth_loss=self._loss,
            learning_rate=learning_rate,
            grad_norm=result.grad_norm,
            moved=result.moved,
            tokens=state.tokens,
            seconds=round(seconds, 4),
            tokens_per_second=round(speed, 1),
            utilisation=round(speed * self._share_per_token, 4),
            seconds_spent=round(self._clock.seconds, 1),
            seconds_left=round(self._clock.left(state.step), 1),
            joules=round(self._meter.read().joules, 1),
            **{name: round(value, 5) for name, value in result.measures.items()},
        )

    def ending(self, seconds: float) -> None:
        """What the last checkpoint will take, for which the run waits."""
        self._clock.ending = seconds

    def looked(self, step: int) -> None:
        """A look at the held-out documents is over."""
        self._clock.lap("looks", step=step)

    def saved(self, step: int) -> None:
        """Training goes on after a checkpoint, or while it is written."""
        self._clock.lap("saves", step=step)
        self._measure_disk()

    def end(self) -> None:
        """Say what this part has spent, the wait for the last checkpoint included; nothing if it had nothing to do."""
        if not self._seen:
            return
        self._clock.lap("saves", step=-1)
        self._measure_disk()
        energy = self._meter.read()
        self._events.emit(
            "spent",
            seconds=round(self._clock.seconds, 2),
            seconds_by={kind: round(seconds, 2) for kind, seconds in self._clock.seconds_by.items()},
            tokens=self._tokens,
            tokens_per_second=round(self._tokens / self._step_seconds, 1) if self._step_seconds else None,
            memory_bytes=peak_memory(self._device),
            disk_bytes=self._disk,
            joules=round(energy.joules, 1),
            joules_are=energy.are,
            joules_how=energy.how,
        )

    def _measure_disk(self) -> None:
        """What a new checkpoint made superfluous lay there beside it for a while."""
        before, self._sizes = self._sizes, checkpoint_sizes(self._dir)
        self._disk = max(self._disk, sum((before | self._sizes).values()))


def make_clock(plan: TrainPlan) -> Clock:
    return Clock(
        steps=plan.steps,
        look_every=(plan.validate_every,),
        save_every=tuple(every for every in (plan.save_every, plan.keep_every) if every),
        look_share=plan.validation_tokens / (plan.batch_rows * plan.context),
    )


def checkpoint_sizes(run_dir: Path) -> dict[str, int]:
    """Bytes of every checkpoint; one that is removed at this moment by another thread is none."""
    sizes: dict[str, int] = {}
    for path in checkpoints(run_dir):
        try:
            sizes[path.name] = num_bytes(path)
        except OSError:
            continue
    return sizes
