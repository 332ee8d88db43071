"""Checkpoints: a model directory that can also go on training.

The weights in `model.safetensors` are the float32 masters themselves; `training/` adds the optimizer's tensors and a
small state. The order of the data is a function of the step, so there is no loader state to keep. A checkpoint that a
crash cut short has no manifest and is never read; one whose bytes have changed is passed over, aloud, for the one
before it. Which of them stay is the business of `retention`.
"""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from rhapsode.core.errors import RhapsodeError
from rhapsode.core.events import Events
from rhapsode.core.manifest import verify, writing
from rhapsode.model.adapter_spec import AdapterSpec
from rhapsode.model.spec import ModelSpec
from rhapsode.weights.adapter import read_adapter
from rhapsode.weights.directory import read_weights, write_weights
from rhapsode.weights.names import checkpoints, step_of
from rhapsode.weights.rows import OPTIMIZER
from rhapsode.weights.safetensors import read_tensors, write_tensors

KIND = "model"
STATE = "training/state.json"


@dataclass(frozen=True)
class TrainingState:
    """Where a run stands after `step` steps. All of it is a function of the plan and of what the machine did to it.

    Attributes:
        skipped: steps that left the weights as they were.
        plan: the hash of what the plan means, whatever carries it out.
        machine: what carries it out, as far as the bytes depend on it.
        micro_batch_rows: rows computed at once; fewer than were planned once memory has run out.
        losses, grad_norms: of the last steps that moved the weights, oldest first.
        skips: steps in a row up to this one that did not move them.
        good: the checkpoint to go back to if the run goes astray, by its step.
        undone: (to, from) of every time it did: step `to` then took the rows that step `from` would have taken.
        bits_per_byte: on held-out documents after this very step, where that was measured.
        elsewhere: what changed each time the run was resumed on another machine, or in another way of computing.
    """

    step: int
    tokens: int
    skipped: int
    plan: str
    machine: Mapping[str, Any] = field(default_factory=dict)
    micro_batch_rows: int = 0
    losses: tuple[float, ...] = ()
    grad_norms: tuple[float, ...] = ()
    skips: int = 0
    good: int = 0
    undone: tuple[tuple[int, int], ...] = ()
    bits_per_byte: float | None = None
    elsewhere: tuple[str, ...] = ()

    @property
    def place(self) -> int:
        """The next step's place in the order of the data."""
        return self.step + sum(start - back for back, start in self.undone)


def save_checkpoint(
    run_dir: Path,
    *,
    kind: str = KIND,
    fill: Callable[[Path], None],
    state: TrainingState,
    card: str,
    papers: Mapping[str, Path] = MappingProxyType({}),
    inputs: Mapping[str, str],
    recipe: Mapping[str, Any],
    facts: Mapping[str, Any],
    prove: Callable[[Path], None] = lambda _: None,
) -> Path:
    """Write `run_dir/step-NNNNNN` completely or not at all.

    Args:
        kind: "model" or "adapter".
        fill: writes the model or the adapter into the directory, and the tensors of the optimizer.
        card: the text of README.md.
        papers: licences and notices that go where the model goes, by their names there.
        facts: what the manifest tells beside the step and the plan.
        prove: adds evidence of its own to the directory, once all else but the state lies there.
    """
    path = run_dir / f"step-{state.step:06d}"
    known = {"step": state.step, "plan": state.plan, **facts}
    with writing(path, kind=kind, inputs=inputs, recipe=recipe, facts=known) as work:
        fill(work.path)
        (work.path / "README.md").write_text(card, encoding="utf-8")
        for name, paper in papers.items():
            shutil.copyfile(paper, work.path / name)
        prove(work.path)
        (work.path / STATE).write_text(json.dumps(asdict(state), indent=1) + "\n", encoding="utf-8")
    return path


def whole_tensors(
    *, spec: ModelSpec, weights: Sequence[tuple[str, Tensor]], optimizer: Mapping[str, Tensor]
) -> Callable[[Path], torch.dtype]:
    """What fills a checkpoint where one process holds all of its tensors."""

    def fill(directory: Path) -> torch.dtype:
        dtype = write_weights(directory, spec=spec, weights=weights)
        write_optimizer(directory, optimizer)
        return dtype

    return fill


def write_optimizer(directory: Path, tensors: Mapping[str, Tensor]) -> None:
    """The optimizer's part of a checkpoint."""
    (directory / OPTIMIZER).parent.mkdir()
    write_tensors(directory / OPTIMIZER, tensors)


def load_checkpoint(
    path: Path, *, spec: ModelSpec, weights: Mapping[str, Tensor], adapter: AdapterSpec | None = None
) -> tuple[TrainingState, dict[str, Tensor]]:
    """Fill the masters, of a model or of an adapter; gives the state and the optimizer's tensors."""
    if adapter is None:
        read_weights(path, weights, spec=spec)
    else:
        found = read_adapter(path, spec=spec).weights
        for name, value in weights.items():
            value.copy_(found[name])
    return read_state(path), read_tensors(path / OPTIMIZER)


def read_state(path: Path) -> TrainingState:
    fields = json.loads((path / STATE).read_text(encoding="utf-8"))
    return TrainingState(**{name: _tuples(value) for name, value in fields.items()})


def _tuples(value: Any) -> Any:
    """JSON has lists alone."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def newest_checkpoint(run_dir: Path, *, events: Events, up_to: int | None = None) -> Path | None:
    """The newest complete checkpoint whose bytes are intact; emits "damaged" for every newer one that is not.

    Args:
        up_to: the latest step to consider.
    """
    found = [path for path in checkpoints(run_dir) if up_to is None or step_of(path) <= up_to]
    for path in reversed(found):
        try:
            verify(path)
        except RhapsodeError as error:
            events.emit("damaged", path=str(path), reason=error.message)
            continue
        return path
    return None
