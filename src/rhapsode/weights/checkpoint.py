"""Checkpoints: a model directory that can also go on training.

The weights in `model.safetensors` are the float32 masters themselves; `training/` adds the optimizer's tensors and a
small state. The order of the data is a function of the step, so there is no loader state to keep. A checkpoint that a
crash cut short has no manifest and is never read; one whose bytes have changed is passed over, aloud, for the one
before it.
"""

import json
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from rhapsode.core.errors import RhapsodeError
from rhapsode.core.events import Events
from rhapsode.core.manifest import is_complete, remove_orphans, verify, writing
from rhapsode.model.spec import ModelSpec
from rhapsode.weights.directory import read_weights, write_model
from rhapsode.weights.safetensors import read_tensors, write_tensors

KIND = "model"
STEP = re.compile(r"step-\d{6,}")


@dataclass(frozen=True)
class TrainingState:
    """Where a run stands after `step` steps."""

    step: int
    tokens: int
    skipped: int
    plan: str


def save_checkpoint(
    run_dir: Path,
    *,
    spec: ModelSpec,
    weights: Sequence[tuple[str, Tensor]],
    optimizer: Mapping[str, Tensor],
    state: TrainingState,
    tokenizer_dir: Path,
    stops: Sequence[int],
    card: str,
    papers: Sequence[Path] = (),
    inputs: Mapping[str, str],
    recipe: Mapping[str, Any],
    facts: Mapping[str, Any],
    prove: Callable[[Path], None] = lambda _: None,
) -> Path:
    """Write `run_dir/step-NNNNNN` completely or not at all.

    Args:
        stops: tokens that end a generation.
        card: the text of README.md.
        papers: licences and notices that go where the model goes.
        facts: what the manifest tells beside the step and the plan.
        prove: adds evidence of its own to the directory, once all else but the optimizer lies there.
    """
    path = run_dir / f"step-{state.step:06d}"
    known = {"step": state.step, "plan": state.plan, **facts}
    with writing(path, kind=KIND, inputs=inputs, recipe=recipe, facts=known) as work:
        write_model(work.path, spec=spec, weights=weights, tokenizer_dir=tokenizer_dir, stops=stops)
        (work.path / "README.md").write_text(card, encoding="utf-8")
        for paper in papers:
            shutil.copyfile(paper, work.path / paper.name)
        prove(work.path)
        training = work.path / "training"
        training.mkdir()
        write_tensors(training / "optimizer.safetensors", optimizer)
        (training / "state.json").write_text(json.dumps(asdict(state), indent=1) + "\n", encoding="utf-8")
    return path


def load_checkpoint(
    path: Path, *, spec: ModelSpec, weights: Mapping[str, Tensor]
) -> tuple[TrainingState, dict[str, Tensor]]:
    """Fill the masters; gives the state and the optimizer's tensors."""
    read_weights(path, weights, spec=spec)
    return read_state(path), read_tensors(path / "training" / "optimizer.safetensors")


def read_state(path: Path) -> TrainingState:
    return TrainingState(**json.loads((path / "training" / "state.json").read_text(encoding="utf-8")))


def checkpoints(run_dir: Path) -> list[Path]:
    """Complete checkpoints, oldest first."""
    found = [path for path in run_dir.glob("step-*") if STEP.fullmatch(path.name) and is_complete(path)]
    return sorted(found, key=_step)


def newest_checkpoint(run_dir: Path, *, events: Events) -> Path | None:
    """The newest complete checkpoint whose bytes are intact; emits "damaged" for every newer one that is not."""
    for path in reversed(checkpoints(run_dir)):
        try:
            verify(path)
        except RhapsodeError as error:
            events.emit("damaged", path=str(path), reason=error.message)
            continue
        return path
    return None


def remove_old(run_dir: Path, *, keep: int, newest: int) -> None:
    """Keep `keep` checkpoints up to step `newest`, and nothing that a crash left half-written.

    Later ones are damaged, or they would be the newest: they do not count, and stay until they are written again.
    """
    for path in [path for path in checkpoints(run_dir) if _step(path) <= newest][:-keep]:
        # out of the way first: half a checkpoint must never look like a whole one
        shutil.rmtree(path.rename(run_dir / f".{path.name}.{os.getpid()}.partial"))
    remove_orphans(run_dir, name=r"step-\d+")


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))
