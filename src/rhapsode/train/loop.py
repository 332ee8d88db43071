"""The one training loop.

It moves a `Trainer` to the end of its plan, emits events and writes checkpoints; it prints nothing. On a CPU it is
deterministic: killed at any moment and resumed, it ends with the same bytes as if it had run through.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rhapsode.conformance.vectors import add_conformance
from rhapsode.core.errors import Interrupted, PlanRefused, RhapsodeError
from rhapsode.core.events import Events
from rhapsode.train.plan import TrainPlan
from rhapsode.train.signals import StopWish
from rhapsode.train.step import StepResult
from rhapsode.train.trainer import Data, Trainer
from rhapsode.train.validation import Validation
from rhapsode.weights.checkpoint import (
    TrainingState,
    newest_checkpoint,
    read_state,
    remove_old,
    save_checkpoint,
)

SKIPS_IN_A_ROW = 3


@dataclass(frozen=True)
class Evidence:
    """What every checkpoint says of its making.

    Attributes:
        inputs: digests of all that it is made from.
        recipe: what was asked for.
        card: the model card's text.
        facts: of the base, where there is one.
        papers: licences and notices that the base asks to be passed on.
    """

    inputs: Mapping[str, str]
    recipe: Mapping[str, Any]
    card: Callable[[TrainingState], str]
    facts: Mapping[str, Any] = field(default_factory=dict)
    papers: Sequence[Path] = ()


class _Stop(Exception):
    """The step under way is given up; nothing has moved."""


class Run:
    """One training run in one directory.

    Args:
        peak_flops: what the machine reaches in a matrix product, the unit of "utilisation".
        wish: looked at after every micro-batch; granted by saving and raising.
    """

    def __init__(
        self,
        trainer: Trainer,
        data: Data,
        *,
        run_dir: Path,
        evidence: Evidence,
        events: Events,
        wish: StopWish,
        peak_flops: float,
    ) -> None:
        self._trainer, self._data, self._dir = trainer, data, run_dir
        self._evidence, self._events, self._wish = evidence, events, wish
        self._report = Reporter(trainer.plan, events, peak_flops=peak_flops)
        self._validate = Validation(
            data.tokens.split("validation"),
            data.held_out,
            tokenizer=data.tokenizer,
            max_tokens=trainer.plan.validation_tokens,
            rows=trainer.plan.micro_batch_rows,
            begin=trainer.plan.begin,
        )
        self._saved: Path | None = None
        self._skips = 0

    def __call__(self, *, resume: bool) -> Path:
        """Train to the end; gives the last checkpoint.

        Raises:
            Interrupted: a signal asked to stop; the state is saved.
            PlanRefused: the checkpoint to resume from belongs to another plan.
            RhapsodeError: the gradient stayed infinite, or the disk is full (earlier checkpoints are intact).
        """
        self._begin(resume=resume)
        plan = self._trainer.plan
        try:
            while self._trainer.state.step < plan.steps:
                self._step()
                done = self._trainer.state.step
                if done % plan.validate_every == 0 or done == plan.steps:
                    self._look()
                if done % plan.save_every == 0 or done == plan.steps:
                    self._save()
        except _Stop:
            path = self._saved if self._is_saved() else self._save()
            where = f"stopped at step {self._trainer.state.step} of {plan.steps}; saved {path}"
            raise Interrupted(where, "go on with --resume", exit_code=self._wish.code or 130) from None
        assert self._saved is not None
        return self._saved

    def _begin(self, *, resume: bool) -> None:
        trainer = self._trainer
        start = newest_checkpoint(self._dir, events=self._events) if resume else None
        if start is not None:
            self._check_plan(start)
            trainer.restore(start)
            self._saved = start
        remove_old(self._dir, keep=trainer.plan.keep, newest=trainer.state.step)
        step, steps = trainer.state.step, trainer.plan.steps
        self._events.emit("begin", step=step, steps=steps, resumed=str(start) if start else None)
        if step == 0:
            self._look()

    def _check_plan(self, start: Path) -> None:
        found, planned = read_state(start).plan, self._trainer.state.plan
        if found != planned:
            raise PlanRefused(
                f"{start} belongs to plan {found[:12]}, this is plan {planned[:12]}",
                "put the recipe and the data back, or give this run another task.name",
            )

    def _step(self) -> None:
        self._give_up_if_asked()
        share, start = self._trainer.learning_rate_share(), time.perf_counter()
        result = self._trainer.step(between=self._give_up_if_asked)
        seconds = time.perf_counter() - start
        self._report(
            self._trainer.state, result, seconds=seconds, learning_rate=share * self._trainer.plan.learning_rate
        )
        self._skips = 0 if result.moved else self._skips + 1
        if self._skips == SKIPS_IN_A_ROW:
            raise RhapsodeError(
                f"{self._skips} steps in a row without a finite gradient, the last one step {self._trainer.state.step}",
                f"lower train.learning_rate; the last good checkpoint is in {self._dir}",
            )

    def _look(self) -> None:
        bits = self._validate(self._trainer.model, self._trainer.objective)
        self._events.emit("validation", step=self._trainer.state.step, bits_per_byte=bits)

    def _is_saved(self) -> bool:
        return self._saved is not None and self._saved.name == f"step-{self._trainer.state.step:06d}"

    def _save(self) -> Path:
        trainer, evidence = self._trainer, self._evidence
        self._saved = save_checkpoint(
            self._dir,
            spec=trainer.plan.spec,
            weights=[(w.name, w.value) for w in trainer.masters.weights],
            optimizer=trainer.optimizer.state(),
            state=trainer.state,
            tokenizer_dir=self._data.tokens.tokenizer_dir,
            stops=trainer.plan.stops,
            card=evidence.card(trainer.state),
            papers=evidence.papers,
            inputs=evidence.inputs,
            recipe=evidence.recipe,
            facts={"objective": trainer.objective.__name__, **evidence.facts},
            prove=add_conformance,
        )
        remove_old(self._dir, keep=trainer.plan.keep, newest=trainer.state.step)
        self._events.emit("saved", step=trainer.state.step, path=str(self._saved))
        return self._saved

    def _give_up_if_asked(self) -> None:
        if self._wish.code is not None:
            raise _Stop


class Reporter:
    """Turns step results into "step" events with speed and time left."""

    def __init__(self, plan: TrainPlan, events: Events, *, peak_flops: float) -> None:
        self._steps, self._events = plan.steps, events
        self._share_per_token = plan.spec.flops_per_token(plan.context) / peak_flops
        self._seen, self._speed = 0, 0.0

    def __call__(self, state: TrainingState, result: StepResult, *, seconds: float, learning_rate: float) -> None:
        self._seen += 1
        speed = result.tokens / seconds
        # the first step pays for memory that the later ones reuse
        self._speed = speed if self._seen <= 2 else 0.9 * self._speed + 0.1 * speed
        self._events.emit(
            "step",
            step=state.step,
            steps=self._steps,
            loss=result.loss,
            learning_rate=learning_rate,
            grad_norm=result.grad_norm,
            moved=result.moved,
            tokens=state.tokens,
            seconds=round(seconds, 4),
            tokens_per_second=round(self._speed, 1),
            utilisation=round(self._speed * self._share_per_token, 4),
            seconds_left=round((self._steps - state.step) * result.tokens / self._speed, 1),
        )
