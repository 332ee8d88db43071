from typing import Any

import pytest
from tests.train.conftest import make_plan

from rhapsode.train.determinism import carried_over, changed, determinism
from rhapsode.weights.checkpoint import TrainingState

MACHINE = {"device": "cpu", "threads": 2, "instructions": "AVX2", "micro_batch_rows": 3}


def state(**fields: Any) -> TrainingState:
    return TrainingState(**{"step": 4, "tokens": 9, "skipped": 0, "plan": "p", "micro_batch_rows": 3, **fields})


@pytest.mark.parametrize(
    ("fields", "kind", "because"),
    [
        ({"machine": MACHINE}, "bitwise", "(device cpu, threads 2, instructions AVX2)"),
        ({}, "bitwise", "ends with the same bytes"),
        ({"machine": MACHINE | {"device": "cuda"}}, "same up to rounding", "sums on cuda have no fixed order"),
        ({"micro_batch_rows": 1}, "same up to rounding", "memory ran out"),
        ({"elsewhere": ("at step 2, threads: 4 -> 2",)}, "same up to rounding", "at step 2, threads: 4 -> 2"),
    ],
)
def test_the_class_of_a_run_and_its_reason(fields: dict[str, Any], kind: str, because: str) -> None:
    found = determinism(state(**fields), make_plan(vocab_size=96))
    assert found.kind == kind
    assert because in found.because


def test_what_differs_between_two_machines_is_told_name_by_name() -> None:
    assert changed(MACHINE, MACHINE) == []
    other = {"device": "cpu", "threads": 1, "micro_batch_rows": 3, "ranks": 2}
    assert changed(MACHINE, other) == ["threads: 2 -> 1", "instructions: AVX2 -> absent", "ranks: absent -> 2"]


def test_fewer_rows_at_once_stay_on_the_machine_whose_memory_ran_out() -> None:
    found = state(machine=MACHINE, micro_batch_rows=1)
    assert carried_over(found, state(machine=MACHINE)) == (found, [])
    moved, changes = carried_over(found, state(machine=MACHINE | {"threads": 8}, micro_batch_rows=3))
    assert changes == ["threads: 2 -> 8"]
    assert (moved.micro_batch_rows, moved.elsewhere) == (3, ("at step 4, threads: 2 -> 8",))
