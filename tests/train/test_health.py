"""A step that would do harm is left out; a run that is led astray comes back, once, or names the documents."""

import json
import math
import random
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.train.conftest import CPU, Heard, Poisoned, make_plan, make_run

from rhapsode.core.errors import RhapsodeError
from rhapsode.core.events import Events
from rhapsode.core.manifest import digest, verify
from rhapsode.train.health import LEAST, WINDOW, after, trouble, turned_back
from rhapsode.train.plan import TrainPlan
from rhapsode.train.step import StepResult
from rhapsode.train.trainer import Data, Trainer
from rhapsode.weights.checkpoint import TrainingState, read_state
from rhapsode.weights.names import checkpoints

START = TrainingState(step=0, tokens=0, skipped=0, plan="p")


def state_after(losses: list[float], norms: list[float] | None = None) -> TrainingState:
    state = START
    for loss, norm in zip(losses, norms or [1.0] * len(losses), strict=True):
        state = after(state, StepResult(loss, 100, norm, moved=True))
    return state


def falling(count: int, *, seed: int = 0) -> list[float]:
    """A usual curve of losses, with its noise."""
    dice = random.Random(seed)
    return [3 + 5 / (1 + step) + dice.gauss(0, 0.1) for step in range(count)]


@settings(max_examples=20)
@given(seed=st.integers(0, 99), count=st.integers(LEAST, 300))
def test_a_usual_curve_has_no_spike(seed: int, count: int) -> None:
    losses = falling(count, seed=seed)
    norms = [math.exp(random.Random(seed + step).gauss(0, 0.4)) for step in range(count)]
    state = START
    for loss, norm in zip(losses, norms, strict=True):
        assert trouble(loss, norm, state, spike=10) is None
        state = after(state, StepResult(loss, 100, norm, moved=True))
    assert len(state.losses) == len(state.grad_norms) == min(count, WINDOW)


@pytest.mark.parametrize(("loss", "norm", "says"), [(9.0, 1.0, "its loss, 9"), (3.1, 40.0, "its gradient's norm, 40")])
def test_a_spike_is_named_with_the_value_that_it_exceeds(loss: float, norm: float, says: str) -> None:
    state = state_after(falling(LEAST), [1.0 + step % 3 / 10 for step in range(LEAST)])
    why = trouble(loss, norm, state, spike=10)
    assert why is not None
    assert why.startswith(says)
    assert trouble(loss, norm, state, spike=None) is None
    assert trouble(loss, norm, state, spike=1000) is None
    assert trouble(loss, norm, state_after(falling(LEAST - 1)), spike=10) is None  # nothing to compare with yet


@pytest.mark.parametrize(("loss", "norm"), [(math.nan, 1.0), (math.inf, 1.0), (1.0, math.nan), (1.0, math.inf)])
def test_what_is_not_finite_never_moves_the_weights(loss: float, norm: float) -> None:
    assert trouble(loss, norm, START, spike=None) is not None


def test_one_spike_that_was_let_through_does_not_hide_the_next() -> None:
    losses = falling(WINDOW)
    losses[100] = 1e6
    assert trouble(8.0, 1.0, state_after(losses), spike=10) is not None


def test_a_model_that_knows_its_text_by_heart_may_still_be_surprised() -> None:
    assert trouble(0.4, 3.0, state_after([0.001] * WINDOW), spike=10) is None


def test_a_step_that_is_left_out_is_counted_and_forgotten() -> None:
    state = after(after(START, StepResult(1.0, 10, 2.0, moved=True)), StepResult(math.nan, 10, 2.0, moved=False))
    assert (state.step, state.tokens, state.skipped, state.skips) == (2, 20, 1, 1)
    assert (state.losses, state.grad_norms) == ((1.0,), (2.0,))
    assert after(state, StepResult(1.0, 10, 2.0, moved=True)).skips == 0


def test_after_turning_back_no_row_that_was_seen_comes_again() -> None:
    then, now = TrainingState(6, 60, 0, "p"), TrainingState(9, 90, 3, "p", skips=3)
    back = turned_back(now, then)
    assert (back.step, back.place, back.skips, back.undone) == (6, now.place, 0, ((6, 9),))
    later = TrainingState(12, 120, 3, "p", undone=back.undone)
    again = turned_back(later, TrainingState(8, 80, 0, "p", undone=back.undone))
    assert (again.step, again.place) == (8, later.place)


def poisoned_plan(data: Data, **changes: object) -> TrainPlan:
    """Fifty-two steps an epoch, so that no row comes twice in these tests."""
    return make_plan(
        vocab_size=data.tokenizer.vocab_size, batch_rows=4, micro_batch_rows=4, validate_every=99, **changes
    )


def rows_of(plan: TrainPlan, data: Data, *places: int) -> list[list[int]]:
    trainer = Trainer(plan, data, device=CPU)
    return [trainer.rows_of(place) for place in places]


def test_a_spike_is_left_out_and_a_resumed_run_leaves_out_the_same(data: Data, tmp_path: Path) -> None:
    plan = poisoned_plan(data, steps=40, save_every=30, samples=0, optimizer="adamw", learning_rate=0.001)
    objective = Poisoned(data, *rows_of(plan, data, 20, 36), worth=20.0)
    heard = Heard()
    last = make_run(plan, data, tmp_path / "whole", events=Events(heard), objective=objective)(resume=False)
    # the first comes when there is nothing to compare with
    assert heard.of("skipped", "step") == [37]
    assert "is a spike" in heard.of("skipped", "reason")[0]
    assert [step for step, moved in enumerate(heard.of("step", "moved"), 1) if not moved] == [37]
    assert read_state(last).skipped == 1
    shutil.copytree(tmp_path / "whole" / "step-000030", tmp_path / "part" / "step-000030")
    assert digest(make_run(plan, data, tmp_path / "part", objective=objective)(resume=True)) == digest(last)


def test_a_run_that_is_led_astray_goes_back_and_passes_the_rows_over(data: Data, tmp_path: Path) -> None:
    plan = poisoned_plan(data, steps=12, save_every=2, keep=2)
    bad = rows_of(plan, data, 7, 8, 9)
    heard, objective = Heard(), Poisoned(data, *bad)
    last = make_run(plan, data, tmp_path / "whole", events=Events(heard), objective=objective)(resume=False)
    assert heard.of("skipped", "step") == [8, 9, 10]
    # step 8 was saved although it was left out, but the last good one is step 6
    assert [(e.fields["step"], e.fields["to"]) for e in heard if e.kind == "rolled_back"] == [(10, 6)]
    assert heard.of("step", "step") == [*range(1, 11), *range(7, 13)]
    trainer = Trainer(plan, data, device=CPU, plan_hash="0123456789abcdef")
    for _ in range(6):
        trainer.step()
    trainer.state = turned_back(TrainingState(10, 0, 0, "p", micro_batch_rows=4), trainer.state)
    assert trainer.rows_of(trainer.state.place) == rows_of(plan, data, 10)[0]
    for _ in range(6):
        trainer.step()
    again = make_run(plan, data, tmp_path / "again", objective=objective)
    again._trainer.restore(last)
    for mine, theirs in zip(trainer.masters.weights, again._trainer.masters.weights, strict=True):
        assert (mine.value == theirs.value).all()
    state = read_state(last)
    assert (state.step, state.undone, state.skipped, state.skips) == (12, ((6, 10),), 0, 0)
    for path in checkpoints(tmp_path / "whole"):
        verify(path)


class KilledError(BaseException):
    """The end of the process, as far as the loop can tell."""


@pytest.mark.parametrize("killed_after", [6, 8, 12])
def test_killed_before_or_after_turning_back_it_ends_the_same(killed_after: int, data: Data, tmp_path: Path) -> None:
    plan = poisoned_plan(data, steps=9, save_every=4, keep=1, samples=0)
    objective = Poisoned(data, *rows_of(plan, data, 5, 6, 7))
    expected = digest(make_run(plan, data, tmp_path / "whole", objective=objective)(resume=False))
    heard, run_dir = Heard(), tmp_path / "killed"
    run = make_run(plan, data, run_dir, events=Events(heard, lambda _: kill()), objective=objective)

    def kill() -> None:
        if len(heard.of("step", "step")) == killed_after:
            run._checkpoints._saver.wait()  # in this process, what is being written would go on
            raise KilledError

    with pytest.raises(KilledError):
        run(resume=False)
    again = Heard()
    assert digest(make_run(plan, data, run_dir, events=Events(again), objective=objective)(resume=True)) == expected
    assert [*heard.of("rolled_back", "to"), *again.of("rolled_back", "to")] in ([4], [4, 4])


def test_led_astray_again_it_stops_and_names_the_documents(data: Data, tmp_path: Path) -> None:
    plan = poisoned_plan(data, steps=20, save_every=2, max_skips=2)
    bad = rows_of(plan, data, 5, 6, 7, 8)
    heard = Heard()
    with pytest.raises(RhapsodeError, match=r"2 steps in a row were left out, the last one, step 6, because") as caught:
        make_run(plan, data, tmp_path, events=Events(heard), objective=Poisoned(data, *bad))(resume=False)
    assert heard.of("rolled_back", "to") == [4]
    assert heard.of("skipped", "step") == [6, 7, 5, 6]
    split = data.tokens.split("train")
    pieces = [piece for row in rows_of(plan, data, 8)[0] for piece in data.training.row(row)]
    first = pieces[0].document
    assert f"{split.document_id(first)} of {split.document_source(first)}" in caught.value.message
    listed = json.loads((tmp_path / "bad-batch-step-000006.json").read_text())["steps"]
    assert [entry["step"] for entry in listed] == [5, 6]
    assert [d["document"] for d in listed[-1]["documents"]] == [split.document_id(piece.document) for piece in pieces]
    assert {d["row"] for d in listed[0]["documents"]} == set(rows_of(plan, data, 7)[0])
    verify(checkpoints(tmp_path)[-1])


def test_with_nothing_to_go_back_to_it_stops_at_once(data: Data, tmp_path: Path) -> None:
    plan = poisoned_plan(data, steps=20, save_every=10)
    with pytest.raises(
        RhapsodeError, match="3 steps in a row were left out, the last one, step 4, because its loss is"
    ):
        make_run(plan, data, tmp_path, objective=Poisoned(data, *rows_of(plan, data, 1, 2, 3)))(resume=False)
    assert (tmp_path / "bad-batch-step-000004.json").is_file()
