"""What another run of the same plan may be held to: the same bytes, or the same up to rounding."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from rhapsode.train.plan import TrainPlan
from rhapsode.weights.checkpoint import TrainingState

BITWISE = "bitwise"
ROUNDING = "same up to rounding"
TELLING = ("device", "ranks", "threads", "instructions", "kernels", "torch")
"""What of the machine is named to a person."""


class Determinism(NamedTuple):
    """`kind` is `BITWISE` or `ROUNDING`."""

    kind: str
    because: str


def determinism(state: TrainingState, plan: TrainPlan) -> Determinism:
    """The class of a run as it stands. Another order of a sum rounds differently, and nothing else ever differs."""
    if state.elsewhere:
        return Determinism(ROUNDING, f"it was resumed with other settings ({state.elsewhere[-1]})")
    if state.micro_batch_rows != plan.micro_batch_rows:
        return Determinism(ROUNDING, "memory ran out, so fewer rows are computed at once than were planned")
    if (device := state.machine.get("device", "cpu")) != "cpu":
        return Determinism(ROUNDING, f"sums on {device} have no fixed order")
    how = ", ".join(f"{name} {state.machine[name]}" for name in TELLING if name in state.machine)
    return Determinism(BITWISE, "killed and resumed or not, it ends with the same bytes" + (f" ({how})" if how else ""))


def carried_over(found: TrainingState, planned: TrainingState) -> tuple[TrainingState, list[str]]:
    """The state of a checkpoint as it goes on here, and what is other than where it was made.

    Rows computed at once are those of the checkpoint, which knows when memory ran out, unless the machine is another.
    """
    changes = changed(found.machine, planned.machine)
    if not changes:
        return found, []
    note = f"at step {found.step}, {', '.join(changes)}"
    state = replace(found, machine=planned.machine, micro_batch_rows=planned.micro_batch_rows)
    return replace(state, elsewhere=(*found.elsewhere, note)), changes


def changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two ways of computing, for example "threads: 2 -> 1"."""
    names = dict.fromkeys([*before, *now])
    return [f"{n}: {before.get(n, 'absent')} -> {now.get(n, 'absent')}" for n in names if before.get(n) != now.get(n)]
