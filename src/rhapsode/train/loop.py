"""The one training loop.

It moves a `Trainer` to the end of its plan, emits events and has checkpoints written; it prints nothing. On a CPU it is
deterministic: killed at any moment and resumed, it ends with the same bytes as if it had run through.
"""

import time
from dataclasses import replace
from pathlib import Path

from rhapsode.core.errors import Interrupted, PlanRefused, RhapsodeError
from rhapsode.core.events import Events
from rhapsode.train.checkpoints import Checkpoints, Evidence, mark_good
from rhapsode.train.determinism import carried_over, determinism
from rhapsode.train.forecast import operations_per_token
from rhapsode.train.health import NOTHING, trouble, turned_back
from rhapsode.train.lineage import blame
from rhapsode.train.looks import Looks
from rhapsode.train.memory import OutOfMemory, fewer_rows
from rhapsode.train.objectives.registry import samples_answers
from rhapsode.train.reporter import Reporter
from rhapsode.train.signals import StopWish
from rhapsode.train.step import StepResult
from rhapsode.train.trainer import Data, Trainer
from rhapsode.weights.checkpoint import newest_checkpoint, read_state
from rhapsode.weights.names import step_of
from rhapsode.weights.retention import remove_later


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
        self._events, self._wish = events, wish
        self._checkpoints = Checkpoints(trainer, data, run_dir=run_dir, evidence=evidence, events=events)
        device = trainer.model.embedding.weight.device
        self._report = Reporter(
            trainer.plan,
            events,
            operations=operations_per_token(trainer.plan, data.training),
            peak_flops=peak_flops,
            run_dir=run_dir,
            device=device,
        )
        self._looks = Looks(trainer.plan, data, events)
        self._why: str | None = None

    def __call__(self, *, resume: bool) -> Path:
        """Train to the end; gives the last checkpoint.

        Raises:
            Interrupted: a signal asked to stop; the state is saved.
            PlanRefused: the checkpoint to resume from belongs to another plan.
            RhapsodeError: the run went astray twice, or memory or the disk do not suffice; earlier checkpoints are
                intact.
        """
        self._begin(resume=resume)
        try:
            while self._trainer.state.step < self._trainer.plan.steps:
                self._step()
                self._after_step()
            return self._checkpoints.save_now()
        except _Stop:
            path, step = self._checkpoints.save_now(), self._trainer.state.step
            where = f"stopped at step {step} of {self._trainer.plan.steps}; saved {path}"
            raise Interrupted(where, "go on with --resume", exit_code=self._wish.code or 130) from None
        except Exception as error:
            if isinstance(error, RuntimeError):
                self._trainer.ranks.doubt()  # while there is still a journal to tell it to
            self._checkpoints.wait()  # what is being written is worth having
            raise
        finally:
            self._report.end()

    def _begin(self, *, resume: bool) -> None:
        trainer = self._trainer
        start = self._newest() if resume else None
        if start is not None:
            self._go_on_from(start)
        self._checkpoints.tidy(trainer.state)
        step, plan = trainer.state.step, trainer.plan
        self._events.emit("begin", step=step, steps=plan.steps, resumed=str(start) if start else None)
        kind, because = determinism(trainer.state, plan)
        self._events.emit("determinism", **{**trainer.state.machine, "class": kind, "because": because})
        self._report.begin()
        if step == 0:
            self._look()

    def _go_on_from(self, start: Path) -> None:
        found, planned = read_state(start), self._trainer.state
        if found.plan != planned.plan:
            raise PlanRefused(
                f"{start} belongs to plan {found.plan[:12]}, this is plan {planned.plan[:12]}",
                "put the recipe and the data back, or give this run another task.name",
            )
        self._trainer.restore(start)
        self._trainer.state, changes = carried_over(found, planned)
        self._checkpoints.newest = start
        if changes:
            message = f"resumed with other settings ({', '.join(changes)}): what is learned is the same, but the bytes "
            message += "will not be those of an uninterrupted run"
            self._events.emit("resumed_elsewhere", step=found.step, changes=changes, message=message)

    def _newest(self, *, up_to: int | None = None) -> Path | None:
        """The checkpoint that rank 0 finds whole."""
        ranks, found = self._trainer.ranks, None
        if ranks.rank == 0:
            found = newest_checkpoint(self._dir, events=self._events, up_to=up_to)
        name = ranks.share(str(found) if found else None)
        return Path(name) if name else None

    def _step(self) -> None:
        if self._trainer.ranks.any(self._wish.code is not None):
            raise _Stop
        self._checkpoints.look()
        trainer, before = self._trainer, self._trainer.state
        share, start = trainer.learning_rate_share(), time.perf_counter()
        result = None
        while result is None:
            result = self._attempt()
        seconds = time.perf_counter() - start
        self._report.ending(self._checkpoints.write_seconds)
        self._report.step(trainer.state, result, seconds=seconds, learning_rate=share * trainer.plan.learning_rate)
        if not result.tokens:
            self._events.emit("idle", step=trainer.state.step, reason=NOTHING)
        elif not result.moved:
            self._why = trouble(result.loss, result.grad_norm, before, spike=trainer.plan.spike)
            self._events.emit("skipped", step=trainer.state.step, reason=self._why)

    def _attempt(self) -> StepResult | None:
        """The next step; None where memory ran out, and the next attempt will need less."""
        trainer = self._trainer
        try:
            # several ranks can only stop together, and that is between steps
            return trainer.step(between=self._give_up_if_asked if trainer.ranks.size == 1 else lambda: None)
        except OutOfMemory as error:
            trainer.state, message = fewer_rows(trainer.state, error)
            self._events.emit("warning", message=message)
            return None

    def _after_step(self) -> None:
        plan, done = self._trainer.plan, self._trainer.state.step
        if self._trainer.state.skips >= plan.max_skips:
            self._turn_back()
            return
        if done % plan.validate_every == 0 or done == plan.steps:
            self._look()
        if plan.saves_at(done):
            self._trainer.state = mark_good(self._trainer.state)
            if done < plan.steps:
                self._checkpoints.save()
                self._report.saved(done)

    def _turn_back(self) -> None:
        """Go back to where the run was good, once, and on with the rows that come after those that led it astray."""
        self._checkpoints.wait()
        trainer, state = self._trainer, self._trainer.state
        last = [(state.step - i, trainer.rows_of(state.place - 1 - i)) for i in reversed(range(state.skips))]
        are_prompts = samples_answers(trainer.plan.objective)
        blamed = trainer.ranks.after_first(lambda: blame(self._data, last, run_dir=self._dir, are_prompts=are_prompts))
        start = self._newest(up_to=state.good) if state.good else None
        what = f"{state.skips} steps in a row were left out, the last one, step {state.step}, because {self._why}"
        if start is None or (state.undone and state.undone[-1][0] == step_of(start)):
            hint = f"look at these documents, or lower train.learning_rate; the last good checkpoint is in {self._dir}"
            raise RhapsodeError(f"{what}; {blamed.sentence}", hint)
        trainer.ranks.after_first(lambda: remove_later(self._dir, than=step_of(start)))
        trainer.restore(start)
        trainer.state, self._checkpoints.newest = turned_back(state, trainer.state), start
        message = f"{what}; {blamed.sentence}. Training goes on from {start.name}, with the rows that come after"
        self._events.emit("rolled_back", step=state.step, to=trainer.state.step, message=message)

    def _look(self) -> None:
        bits = self._looks(self._trainer)
        self._trainer.state = replace(self._trainer.state, bits_per_byte=bits)
        self._report.looked(self._trainer.state.step)

    def _give_up_if_asked(self) -> None:
        if self._wish.code is not None:
            raise _Stop
