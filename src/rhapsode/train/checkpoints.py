"""The checkpoints of a run: written while it goes on, told of when they are there, and tidied up.

A save that fails costs nothing but itself: the one before it is intact, training goes on, and the next save point tries
again. At the end of a run, or of its time, there is no next one: then a save is waited for, and must succeed.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from rhapsode.conformance.vectors import add_conformance
from rhapsode.core.errors import RhapsodeError
from rhapsode.core.events import Events
from rhapsode.model.adapter_spec import AdapterSpec
from rhapsode.train.saving import Saved, Saver, Snapshot
from rhapsode.train.trainer import Data, Trainer
from rhapsode.weights.adapter import write_adapter
from rhapsode.weights.checkpoint import TrainingState, save_checkpoint, whole_tensors, write_optimizer
from rhapsode.weights.directory import describe_model
from rhapsode.weights.names import step_of
from rhapsode.weights.retention import remove_old
from rhapsode.weights.tokenizer_files import copy_tokenizer

if TYPE_CHECKING:
    from rhapsode.train.ranks.saving import Party


@dataclass(frozen=True)
class Evidence:
    """What every checkpoint says of its making.

    Attributes:
        inputs: digests of all that it is made from.
        recipe: what was asked for.
        card: the model card's text.
        facts: of the base, where there is one.
        papers: licences and notices that a base or a teacher asks to be passed on, by their names here.
        base_name: where readers of an adapter look for its base.
    """

    inputs: Mapping[str, str]
    recipe: Mapping[str, Any]
    card: Callable[[TrainingState], str]
    facts: Mapping[str, Any] = field(default_factory=dict)
    papers: Mapping[str, Path] = field(default_factory=dict)
    base_name: str = ""


class Checkpoints:
    """Those in `run_dir`. Everything is told from the thread that trains. `newest` is the newest that is whole."""

    def __init__(self, trainer: Trainer, data: Data, *, run_dir: Path, evidence: Evidence, events: Events) -> None:
        self._trainer, self._data, self._dir = trainer, data, run_dir
        self._evidence, self._events = evidence, events
        self._saver = Saver(self._write, self.tidy)
        # of ranks that hold the same, the first one writes it
        self._has_nothing_to_write = not any(place.is_first for place in trainer.masters.places.values())
        self._party = _party(trainer)
        self.newest: Path | None = None
        self._has_warned = False

    @property
    def write_seconds(self) -> float:
        """What writing the last one took, in its thread; 0 before there was one."""
        return self._saver.seconds

    def save(self) -> None:
        """Have the trainer's present step written while the next ones are computed."""
        if self._has_nothing_to_write:
            return
        if self._saver.is_busy:
            start = time.perf_counter()
            self.wait()
            step, seconds = self._trainer.state.step, time.perf_counter() - start
            self._events.emit("save_waited", step=step, seconds=round(seconds, 3))
        self.look()
        if not self._begin():
            if not self._has_warned:
                self._events.emit(
                    "warning", message="no memory for a copy of the weights: training waits for every checkpoint"
                )
            self._has_warned = True
            self.wait()

    def save_now(self) -> Path:
        """A checkpoint of the trainer's present step, on the disk; one that is there already is not written again.

        Raises:
            RhapsodeError: it cannot be written; the message names the newest one that is intact.
        """
        self.wait()
        step = self._trainer.state.step
        if self._has_nothing_to_write:
            return self._dir / f"step-{step:06d}"
        if self.newest is None or step_of(self.newest) != step:
            self._begin()
            saved = self._saver.wait()
            assert saved is not None, "it has just begun"
            if saved.path is None and saved.problem is not None:
                lost = f"step {step} is not saved: {saved.problem.message}; {self._intact()}"
                raise RhapsodeError(lost, f"{saved.problem.hint}; then go on with --resume")
            self._tell(saved)
        assert self.newest is not None
        return self.newest

    def look(self) -> None:
        """Tell of a save that has ended."""
        self._tell(self._saver.done())

    def wait(self) -> None:
        """Let the save under way end, and tell of it."""
        self._tell(self._saver.wait())

    def tidy(self, state: TrainingState) -> None:
        """Remove what need not stay once there is a checkpoint of `state`."""
        plan = self._trainer.plan
        if self._trainer.ranks.rank > 0:
            return
        remove_old(self._dir, keep=plan.keep, newest=state.step, keep_every=plan.keep_every, good=state.good)

    def _begin(self) -> bool:
        """False where there was no memory for a copy: nothing may move before it is written."""
        trainer = self._trainer
        weights = [(w.name, w.value) for w in trainer.masters.weights]
        return self._saver.begin(Snapshot(weights, trainer.optimizer.state(), trainer.state))

    def _write(self, snapshot: Snapshot) -> Path:
        plan, state = self._trainer.plan, snapshot.state
        if plan.adapter is not None:
            return self._save_adapter(plan.adapter, snapshot)
        if self._party is None:
            fill = whole_tensors(spec=plan.spec, weights=snapshot.weights, optimizer=snapshot.optimizer)
            return self._save(state, fill)
        mine = self._trainer.shares(snapshot.weights, snapshot.optimizer)
        return self._party.save(mine, lead=lambda fill: self._save(state, fill))

    def _save(self, state: TrainingState, tensors: Callable[[Path], torch.dtype]) -> Path:
        """`tensors` writes those of the model and of the optimizer, and gives the model's type."""
        plan, tokenizer_dir = self._trainer.plan, self._data.tokens.tokenizer_dir

        def fill(directory: Path) -> None:
            dtype = tensors(directory)
            describe_model(directory, spec=plan.spec, dtype=dtype, tokenizer_dir=tokenizer_dir, stops=plan.stops)

        return self._complete(state, fill, kind="model", prove=add_conformance)

    def _save_adapter(self, adapter: AdapterSpec, snapshot: Snapshot) -> Path:
        plan, evidence = self._trainer.plan, self._evidence
        assert plan.base is not None, "an adapter stands upon a base"

        def fill(directory: Path) -> None:
            write_adapter(
                directory,
                spec=plan.spec,
                adapter=adapter,
                weights=snapshot.weights,
                base=plan.base or "",
                base_name=evidence.base_name,
            )
            copy_tokenizer(self._data.tokens.tokenizer_dir, directory, events=Events())
            write_optimizer(directory, snapshot.optimizer)

        return self._complete(snapshot.state, fill, kind="adapter")

    def _complete(
        self,
        state: TrainingState,
        fill: Callable[[Path], None],
        *,
        kind: str,
        prove: Callable[[Path], None] = lambda _: None,
    ) -> Path:
        evidence = self._evidence
        return save_checkpoint(
            self._dir,
            kind=kind,
            fill=fill,
            state=state,
            card=evidence.card(state),
            papers=evidence.papers,
            inputs=evidence.inputs,
            recipe=evidence.recipe,
            facts={"objective": self._trainer.objective.__name__, **evidence.facts},
            prove=prove,
        )

    def _tell(self, saved: Saved | None) -> None:
        if saved is None:
            return
        if saved.path is not None:
            self.newest = saved.path
            self._events.emit("saved", step=saved.step, path=str(saved.path))
        if saved.problem is not None:
            lost = "superfluous checkpoints could not be removed" if saved.path else f"step {saved.step} is not saved"
            self._events.emit(
                "save_failed",
                step=saved.step,
                reason=saved.problem.message,
                intact=str(self.newest) if self.newest else None,
                message=f"{lost}: {saved.problem.message}; {self._intact()}, and training goes on",
            )

    def _intact(self) -> str:
        return f"{self.newest} is intact" if self.newest else "there is no earlier checkpoint"


def mark_good(state: TrainingState) -> TrainingState:
    """At a save point: from here on, a run that goes astray comes back to this step, unless it is astray already."""
    return state if state.skips else replace(state, good=state.step)


def _party(trainer: Trainer) -> "Party | None":
    """Those who write together, where several have pieces of one model."""
    if not trainer.grid.is_divided:
        return None
    from rhapsode.train.ranks.saving import Party

    return Party(trainer.ranks, writers=len(trainer.grid.holders))
