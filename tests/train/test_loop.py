import dataclasses
import itertools
import math
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.train.conftest import CPU, Heard, Infinite, make_plan, make_run
from tests.weights.conftest import flip_a_bit

from rhapsode.core.errors import Interrupted, PlanRefused
from rhapsode.core.events import Event, Events
from rhapsode.core.manifest import digest, verify
from rhapsode.model.decoder import Decoder
from rhapsode.train import checkpoints as policy
from rhapsode.train.objective import Batch, next_token
from rhapsode.train.objectives.loss import Loss
from rhapsode.train.signals import StopWish, stop_wishes
from rhapsode.train.trainer import Data, Trainer
from rhapsode.weights.checkpoint import TrainingState, read_state
from rhapsode.weights.directory import load_model
from rhapsode.weights.names import checkpoints

WAYS = list(itertools.product(("muon", "adamw"), ("bf16", "fp32")))


def names(run_dir: Path) -> list[str]:
    return [path.name for path in checkpoints(run_dir)]


@pytest.mark.parametrize(("optimizer", "precision"), WAYS)
def test_the_loss_goes_down_on_what_can_be_learned(optimizer: str, precision: str, data: Data, tmp_path: Path) -> None:
    heard = Heard()
    plan = make_plan(
        vocab_size=data.tokenizer.vocab_size,
        optimizer=optimizer,
        precision=precision,
        steps=40,
        save_every=40,
        validate_every=20,
        learning_rate=0.02 if optimizer == "muon" else 0.006,
    )
    make_run(plan, data, tmp_path, events=Events(heard))(resume=False)
    losses, bits = heard.of("step", "loss"), heard.of("validation", "bits_per_byte")
    assert losses[0] == pytest.approx(math.log(data.tokenizer.vocab_size), abs=0.3)
    assert losses[-1] < 0.6 * losses[0]
    assert heard.of("validation", "step") == [0, 20, 40]
    assert bits == sorted(bits, reverse=True)
    assert bits[-1] < 0.6 * bits[0]


def test_two_runs_give_the_same_bytes_and_another_seed_gives_others(data: Data, tmp_path: Path) -> None:
    digests = [
        digest(make_run(make_plan(vocab_size=data.tokenizer.vocab_size, **seed), data, tmp_path / name)(resume=False))
        for name, seed in {"a": {}, "b": {}, "c": {"init_seed": 1}, "d": {"order_seed": 1}}.items()
    ]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


@pytest.mark.parametrize(("optimizer", "precision"), WAYS)
def test_resuming_from_any_checkpoint_ends_with_the_same_bytes(
    optimizer: str, precision: str, data: Data, tmp_path: Path
) -> None:
    plan = make_plan(
        vocab_size=data.tokenizer.vocab_size, optimizer=optimizer, precision=precision, save_every=1, keep=99
    )
    whole = tmp_path / "whole"
    # a skipped step in the middle: the optimizer's count of steps is not the run's
    last = make_run(plan, data, whole, objective=Infinite(7))(resume=False)
    assert names(whole) == [f"step-{step:06d}" for step in range(1, 7)]
    expected = verify(last).files
    for start in range(1, 6):
        part = tmp_path / f"from-{start}"
        shutil.copytree(whole / f"step-{start:06d}", part / f"step-{start:06d}")
        done = start * math.ceil(plan.batch_rows / plan.micro_batch_rows)
        resumed = make_run(plan, data, part, objective=Infinite(7 - done))(resume=True)
        assert verify(resumed).files == expected
        assert digest(resumed) == digest(last)


def test_a_run_that_is_complete_is_not_trained_again(data: Data, tmp_path: Path) -> None:
    plan, heard = make_plan(vocab_size=data.tokenizer.vocab_size), Heard()
    last = make_run(plan, data, tmp_path)(resume=False)
    assert make_run(plan, data, tmp_path, events=Events(heard))(resume=True) == last
    assert [event.kind for event in heard] == ["begin", "determinism"]


def test_resuming_where_there_is_nothing_starts_at_the_beginning(data: Data, tmp_path: Path) -> None:
    heard = Heard()
    make_run(make_plan(vocab_size=data.tokenizer.vocab_size), data, tmp_path, events=Events(heard))(resume=True)
    assert heard[0].fields == {"step": 0, "steps": 6, "resumed": None}


def test_a_damaged_checkpoint_costs_the_steps_since_the_one_before(data: Data, tmp_path: Path) -> None:
    plan, heard = make_plan(vocab_size=data.tokenizer.vocab_size), Heard()
    expected = digest(make_run(plan, data, tmp_path)(resume=False))
    flip_a_bit(tmp_path / "step-000006" / "training" / "optimizer.safetensors")
    last = make_run(plan, data, tmp_path, events=Events(heard))(resume=True)
    assert [event.kind for event in heard][:2] == ["damaged", "begin"]
    assert heard[1].fields["step"] == 4
    assert digest(last) == expected
    verify(last)


def test_what_is_saved_stays_even_when_later_checkpoints_are_damaged(data: Data, tmp_path: Path) -> None:
    plan = make_plan(vocab_size=data.tokenizer.vocab_size)
    expected = digest(make_run(plan, data, tmp_path)(resume=False))
    for name in names(tmp_path):
        flip_a_bit(tmp_path / name / "model.safetensors")
    saved: list[bool] = []

    def look(event: Event) -> None:
        if event.kind == "saved":
            saved.append(Path(event.fields["path"]).is_dir())

    assert digest(make_run(plan, data, tmp_path, events=Events(look))(resume=True)) == expected
    assert saved == [True, True, True]
    for path in checkpoints(tmp_path):
        verify(path)


@pytest.mark.parametrize("changes", [{}, {"optimizer": "adamw"}, {"wider": True}])
def test_another_plan_does_not_go_on_with_a_run(changes: dict[str, object], data: Data, tmp_path: Path) -> None:
    plan = make_plan(vocab_size=data.tokenizer.vocab_size)
    last = make_run(plan, data, tmp_path, plan_hash="a" * 64)(resume=False)
    before = digest(last)
    other = make_plan(vocab_size=data.tokenizer.vocab_size + bool(changes.pop("wider", False)), **changes)
    with pytest.raises(PlanRefused, match=r"belongs to plan aaaaaaaaaaaa, this is plan bbbbbbbbbbbb"):
        make_run(other, data, tmp_path, plan_hash="b" * 64)(resume=True)
    assert digest(last) == before


@pytest.mark.parametrize(
    ("now", "says"),
    [
        ({"threads": 1, "torch": "2.13.0"}, "threads: 2 -> 1"),
        ({"threads": 2, "torch": "2.14.0"}, "torch: 2.13.0 -> 2.14.0"),
        ({"threads": 2, "torch": "2.13.0", "ranks": 3}, "ranks: absent -> 3"),
    ],
)
def test_a_run_goes_on_elsewhere_and_says_so(now: dict[str, Any], says: str, data: Data, tmp_path: Path) -> None:
    plan, heard = make_plan(vocab_size=data.tokenizer.vocab_size, samples=0), Heard()
    here = {"threads": 2, "torch": "2.13.0"}
    usual = Heard()
    make_run(plan, data, tmp_path, events=Events(usual), machine=here)(resume=False)
    assert usual.of("determinism", "class") == ["bitwise"]
    assert usual.of("determinism", "threads") == [2]
    shutil.rmtree(tmp_path / "step-000006")
    last = make_run(plan, data, tmp_path, events=Events(heard), machine=now)(resume=True)
    assert heard.of("resumed_elsewhere", "changes") == [[says]]
    assert "the bytes will not be those of an uninterrupted run" in heard.of("resumed_elsewhere", "message")[0]
    assert heard.of("determinism", "class") == ["same up to rounding"]
    state = read_state(last)
    assert state.machine == now
    assert state.elsewhere == (f"at step 4, {says}",)
    again = Heard()
    make_run(plan, data, tmp_path, events=Events(again), machine=now)(resume=True)
    assert again.kinds() == ["begin", "determinism"]
    assert again.of("determinism", "class") == ["same up to rounding"]


def test_fewer_rows_at_once_is_another_way_of_computing_and_not_another_plan(data: Data, tmp_path: Path) -> None:
    plan = make_plan(vocab_size=data.tokenizer.vocab_size, samples=0, micro_batch_rows=4)
    make_run(plan, data, tmp_path, machine={"micro_batch_rows": 4})(resume=False)
    shutil.rmtree(tmp_path / "step-000006")
    heard, fewer = Heard(), dataclasses.replace(plan, micro_batch_rows=2)
    last = make_run(fewer, data, tmp_path, events=Events(heard), machine={"micro_batch_rows": 2})(resume=True)
    assert heard.of("resumed_elsewhere", "changes") == [["micro_batch_rows: 4 -> 2"]]
    assert read_state(last).micro_batch_rows == 2


def test_only_the_newest_checkpoints_are_kept(data: Data, tmp_path: Path) -> None:
    plan = make_plan(vocab_size=data.tokenizer.vocab_size, steps=7, save_every=2, keep=2)
    make_run(plan, data, tmp_path)(resume=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000006", "step-000007"]


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_the_middle_of_a_step_is_granted_by_saving(
    number: int, exit_code: int, data: Data, tmp_path: Path
) -> None:
    plan = make_plan(vocab_size=data.tokenizer.vocab_size, save_every=100)
    expected = digest(make_run(plan, data, tmp_path / "whole")(resume=False))
    calls = itertools.count()

    def signalled(model: Decoder, batch: Batch) -> Loss:
        if torch.is_grad_enabled() and next(calls) == 7:  # the second of the three micro-batches of step 3
            os.kill(os.getpid(), number)
        return next_token(model, batch)

    signalled.measures, signalled.begin = (), next_token.begin
    with (
        pytest.raises(Interrupted, match="stopped at step 2 of 6; saved .*step-000002") as caught,
        stop_wishes() as wish,
    ):
        make_run(plan, data, tmp_path / "run", wish=wish, objective=signalled)(resume=False)
    assert caught.value.exit_code == exit_code
    assert next(calls) == 8
    assert names(tmp_path / "run") == ["step-000002"]
    assert digest(make_run(plan, data, tmp_path / "run")(resume=True)) == expected


def test_a_save_under_way_is_finished_and_not_begun_anew(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[int] = []
    real = policy.save_checkpoint

    def slow(run_dir: Path, *, state: TrainingState, **rest: Any) -> Path:
        begun.append(state.step)
        time.sleep(0.2)
        return real(run_dir, state=state, **rest)

    monkeypatch.setattr(policy, "save_checkpoint", slow)
    for asked_at, saved in ((2, [2]), (3, [2, 3])):  # in the step that is being saved, and in the one after it
        wish, run_dir = StopWish(), tmp_path / str(asked_at)
        begun.clear()

        def ask(event: Event, *, asked_at: int = asked_at, wish: StopWish = wish) -> None:
            if event.kind == "step" and event.fields["step"] == asked_at:
                wish(signal.SIGTERM, None)

        plan = make_plan(vocab_size=data.tokenizer.vocab_size, samples=0)
        with pytest.raises(Interrupted, match=f"stopped at step {asked_at}"):
            make_run(plan, data, run_dir, wish=wish, events=Events(ask))(resume=False)
        assert begun == saved
        assert names(run_dir) == [f"step-{step:06d}" for step in saved]


def test_a_wish_before_the_first_step_is_granted_too(data: Data, tmp_path: Path) -> None:
    wish, plan = StopWish(), make_plan(vocab_size=data.tokenizer.vocab_size)
    wish(signal.SIGTERM, None)
    with pytest.raises(Interrupted, match="step 0"):
        make_run(plan, data, tmp_path, wish=wish)(resume=False)
    heard = Heard()
    last = make_run(plan, data, tmp_path, events=Events(heard))(resume=True)
    assert heard.of("begin", "resumed") == [str(tmp_path / "step-000000")]
    assert last.name == "step-000006"


def test_a_second_ctrl_c_does_not_wait() -> None:
    wish = StopWish()
    wish(signal.SIGINT, None)
    with pytest.raises(KeyboardInterrupt):
        wish(signal.SIGINT, None)


def test_signals_mean_what_they_meant_once_the_run_is_over() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with stop_wishes() as wish:
        assert signal.getsignal(signal.SIGINT) is wish
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_checkpoint_is_the_model_that_was_trained(data: Data, tmp_path: Path) -> None:
    plan = make_plan(vocab_size=data.tokenizer.vocab_size)
    last = make_run(plan, data, tmp_path)(resume=False)
    trainer = Trainer(plan, data, device=CPU)
    for _ in range(plan.steps):
        trainer.step()
    loaded = dict(load_model(last).named_parameters())
    assert all((loaded[w.name] == w.value).all() for w in trainer.masters.weights)
    assert verify(last).facts == {"step": 6, "plan": "0123456789abcdef", "objective": "next_token"}
    assert (last / "README.md").read_text() == "# After 6 steps\n"


def test_events_tell_the_story_of_a_run(data: Data, tmp_path: Path) -> None:
    heard, plan = Heard(), make_plan(vocab_size=data.tokenizer.vocab_size)
    make_run(plan, data, tmp_path, events=Events(heard))(resume=False)
    # when a checkpoint is there depends on the disk
    assert [kind for kind in heard.kinds() if kind != "saved"] == [
        "begin",
        "determinism",
        *["validation"] * 3,
        "spent",
    ]
    assert heard.of("saved", "step") == [2, 4, 6]
    assert heard.of("validation", "step") == [0, 4, 6]
    assert heard.of("step", "step") == [1, 2, 3, 4, 5, 6]
    rates = [0.02 * share for share in (0.5, 1, 1, 0.75, 0.5, 0.25)]
    assert heard.of("step", "learning_rate") == pytest.approx(rates)
    assert all(seconds > 0 for seconds in heard.of("step", "seconds"))
    assert heard.of("step", "tokens")[-1] == sum(
        Trainer(plan, data, device=CPU).load(step).num_targets for step in range(plan.steps)
    )
