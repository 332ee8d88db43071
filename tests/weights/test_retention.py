"""Which checkpoints stay is read from the disk alone."""

import dataclasses
import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.conftest import make_decoder, make_spec
from tests.weights.conftest import flip_a_bit, save_step

from rhapsode.core.events import Events
from rhapsode.core.manifest import MANIFEST
from rhapsode.weights.checkpoint import TrainingState, newest_checkpoint, read_state
from rhapsode.weights.names import checkpoints
from rhapsode.weights.retention import best_checkpoint, remove_later, remove_old


def fake(run_dir: Path, step: int, bits: float | None = None) -> Path:
    """What a look at a checkpoint's name and state sees of one."""
    path = run_dir / f"step-{step:06d}"
    (path / "training").mkdir(parents=True)
    state = TrainingState(step=step, tokens=0, skipped=0, plan="p", bits_per_byte=bits)
    (path / "training" / "state.json").write_text(json.dumps(dataclasses.asdict(state)))
    (path / MANIFEST).write_text("{}")
    return path


def steps(run_dir: Path) -> list[int]:
    return [int(path.name.removeprefix("step-")) for path in checkpoints(run_dir)]


def test_the_newest_the_best_every_nth_and_the_good_one_stay(tmp_path: Path) -> None:
    for step, bits in {10: 3.0, 20: 1.0, 30: None, 40: 2.0, 50: 2.5, 60: math.nan, 70: 2.2, 80: None}.items():
        fake(tmp_path, step, bits)
    remove_old(tmp_path, keep=2, newest=80, keep_every=25, good=45)
    assert steps(tmp_path) == [20, 40, 50, 70, 80]
    assert sorted(p.name for p in tmp_path.iterdir()) == [p.name for p in checkpoints(tmp_path)]
    remove_old(tmp_path, keep=1, newest=80)
    assert steps(tmp_path) == [20, 80]


def test_of_two_that_are_as_good_the_later_one_is_the_best(tmp_path: Path) -> None:
    found = [fake(tmp_path, step, 2.0) for step in (1, 2)]
    assert best_checkpoint(found) == found[1]
    assert best_checkpoint([fake(tmp_path, 3)]) is None


def test_a_state_that_cannot_be_read_is_no_reason_to_fail(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        fake(tmp_path, step, 1.0 + step)
    (tmp_path / "step-000001" / "training" / "state.json").write_text("{torn")
    remove_old(tmp_path, keep=1, newest=3)
    assert steps(tmp_path) == [2, 3]


def test_what_is_undone_goes_from_the_end(tmp_path: Path) -> None:
    for step in (2, 4, 6, 8):
        fake(tmp_path, step)
    remove_later(tmp_path, than=4)
    assert steps(tmp_path) == [2, 4]


def test_only_checkpoints_up_to_a_step_are_asked_for(tokenizer_dir: Path, tmp_path: Path) -> None:
    model = make_decoder(make_spec())
    for step in (2, 4, 6):
        save_step(tmp_path, model, tokenizer_dir, step=step)
    assert newest_checkpoint(tmp_path, events=Events(), up_to=5) == tmp_path / "step-000004"
    flip_a_bit(tmp_path / "step-000004" / "model.safetensors")
    assert newest_checkpoint(tmp_path, events=Events(), up_to=5) == tmp_path / "step-000002"
    assert newest_checkpoint(tmp_path, events=Events(), up_to=1) is None


@given(undone=st.lists(st.tuples(st.integers(0, 50), st.integers(1, 9)), max_size=4), step=st.integers(0, 99))
def test_the_state_comes_back_from_disk_as_it_was(
    undone: list[tuple[int, int]], step: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    state = TrainingState(
        step=step,
        tokens=7,
        skipped=1,
        plan="p",
        machine={"threads": 2, "torch": "2.13.0"},
        losses=(1.1, 2.2 / 3),
        grad_norms=(0.1,),
        undone=tuple((to, to + more) for to, more in undone),
        bits_per_byte=1 / 3,
        elsewhere=("at step 3, threads: 2 -> 1",),
    )
    path = tmp_path_factory.mktemp("state")
    (path / "training").mkdir()
    (path / "training" / "state.json").write_text(json.dumps(dataclasses.asdict(state)))
    assert read_state(path) == state
    assert state.place == step + sum(more for _, more in undone)
