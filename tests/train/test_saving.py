"""Checkpoints are written while training goes on, and a save that fails costs nothing but itself."""

import errno
import itertools
import os
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.train.conftest import CPU, Heard, make_plan, make_run

from rhapsode.conformance.vectors import add_conformance
from rhapsode.core.errors import Interrupted, RhapsodeError
from rhapsode.core.events import Event, Events
from rhapsode.core.manifest import digest, read_manifest, verify
from rhapsode.train import checkpoints as policy
from rhapsode.train import saving
from rhapsode.train.saving import Saver, Snapshot
from rhapsode.train.signals import StopWish
from rhapsode.train.trainer import Data, Trainer
from rhapsode.weights.checkpoint import TrainingState, read_state, save_checkpoint, whole_tensors
from rhapsode.weights.directory import describe_model
from rhapsode.weights.names import checkpoints

STATE = TrainingState(step=1, tokens=1, skipped=0, plan="p")


def names(run_dir: Path) -> list[str]:
    return [path.name for path in checkpoints(run_dir)]


def whole(run_dir: Path) -> list[str]:
    """Every complete checkpoint, once its bytes are proven."""
    for path in checkpoints(run_dir):
        verify(path)
    return names(run_dir)


def snapshot(value: torch.Tensor) -> Snapshot:
    return Snapshot([("weight", value)], {"moment": value + 1}, STATE)


def test_what_is_written_is_what_was_there_when_the_save_began() -> None:
    free, seen = threading.Event(), []

    def write(taken: Snapshot) -> Path:
        free.wait()
        seen.append((taken.weights[0][1].clone(), taken.optimizer["moment"].clone()))
        return Path("step-000001")

    saver, value = Saver(write, tidy=lambda _: None), torch.zeros(1000)
    for number in range(3):  # the copy's memory is used again
        value.fill_(number)
        free.clear()
        assert saver.begin(snapshot(value))
        assert saver.is_busy
        assert saver.done() is None
        value.fill_(99)
        free.set()
        assert saver.wait() == (1, Path("step-000001"), None)
        assert (seen[number][0] == number).all()
        assert (seen[number][1] == number + 1).all()
    assert saver.wait() is None


def test_a_defect_in_the_thread_is_not_taken_for_a_full_disk() -> None:
    def write(_: Snapshot) -> Path:
        raise ZeroDivisionError

    saver = Saver(write, tidy=lambda _: None)
    saver.begin(snapshot(torch.zeros(1)))
    with pytest.raises(ZeroDivisionError):
        saver.wait()


def test_training_does_not_wait_for_a_save_and_the_bytes_are_those_of_one_it_waits_for(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, heard, far = make_plan(vocab_size=data.tokenizer.vocab_size, save_every=2), Heard(), threading.Event()

    def slow(path: Path) -> None:
        if ".step-000002." in path.name:
            assert far.wait(60)
        add_conformance(path)

    def look(event: Event) -> None:
        if event.kind == "step" and event.fields["step"] == 4:
            far.set()

    monkeypatch.setattr(policy, "add_conformance", slow)
    make_run(plan, data, tmp_path / "run", events=Events(heard, look))(resume=False)
    order = [(event.kind, event.fields["step"]) for event in heard if event.kind in ("step", "saved", "save_waited")]
    assert order.index(("saved", 2)) > order.index(("step", 4))
    assert [step for kind, step in order if kind == "saved"] == [2, 4, 6]

    trainer = Trainer(plan, data, device=CPU, plan_hash="0123456789abcdef")
    for _ in range(4):
        trainer.step()
    found = tmp_path / "run" / "step-000004"
    weights = [(w.name, w.value) for w in trainer.masters.weights]
    tensors = whole_tensors(spec=plan.spec, weights=weights, optimizer=trainer.optimizer.state())

    def fill(directory: Path) -> None:
        dtype, words = tensors(directory), data.tokens.tokenizer_dir
        describe_model(directory, spec=plan.spec, dtype=dtype, tokenizer_dir=words, stops=plan.stops)

    waited_for = save_checkpoint(
        tmp_path / "waited",
        fill=fill,
        state=read_state(found),
        card="# After 4 steps\n",
        inputs={"tokens": "t"},
        recipe={"train": {}},
        facts={"objective": "next_token"},
        prove=add_conformance,
    )
    assert digest(found) == digest(waited_for)


def test_a_second_save_waits_for_the_first_and_says_so(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, heard, reached = (
        make_plan(vocab_size=data.tokenizer.vocab_size, save_every=1, steps=3),
        Heard(),
        threading.Event(),
    )

    def slow(path: Path) -> None:
        if ".step-000001." in path.name:
            assert reached.wait(60)
            threading.Event().wait(0.2)
        add_conformance(path)

    def look(event: Event) -> None:
        if event.kind == "step" and event.fields["step"] == 2:
            reached.set()

    monkeypatch.setattr(policy, "add_conformance", slow)
    make_run(plan, data, tmp_path, events=Events(heard, look))(resume=False)
    assert heard.of("save_waited", "step")[0] == 2
    assert heard.of("save_waited", "seconds")[0] > 0
    assert whole(tmp_path) == ["step-000002", "step-000003"]


def test_without_memory_for_a_copy_training_waits(data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, heard = make_plan(vocab_size=data.tokenizer.vocab_size, samples=0), Heard()
    expected = digest(make_run(plan, data, tmp_path / "a")(resume=False))

    def no_memory(*_: Any, **__: Any) -> torch.Tensor:
        return torch.zeros(2**60)

    with monkeypatch.context() as patch:
        patch.setattr(saving, "empty", no_memory)
        assert digest(make_run(plan, data, tmp_path / "b", events=Events(heard))(resume=False)) == expected
    assert ["training waits for every checkpoint" in message for message in heard.of("warning", "message")] == [True]


def full_at(step: int, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """The disk is full while this step's weights are written; gives what frees it."""
    real, is_full = os.pwrite, True

    def pwrite(file: int, memory: memoryview, at: int) -> int:
        if is_full and at > 0 and f".step-{step:06d}." in str(Path(f"/proc/self/fd/{file}").readlink()):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(file, memory, at)

    def free() -> None:
        nonlocal is_full
        is_full = False

    monkeypatch.setattr(os, "pwrite", pwrite)
    return free


def test_a_full_disk_in_the_middle_costs_one_checkpoint(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, heard = make_plan(vocab_size=data.tokenizer.vocab_size), Heard()
    expected = digest(make_run(plan, data, tmp_path / "a")(resume=False))
    full_at(4, monkeypatch)
    last = make_run(plan, data, tmp_path / "b", events=Events(heard))(resume=False)
    assert heard.of("save_failed", "step") == [4]
    assert heard.of("save_failed", "intact") == [str(tmp_path / "b" / "step-000002")]
    assert "disk is full" in heard.of("save_failed", "message")[0]
    assert heard.of("saved", "step") == [2, 6]
    assert whole(tmp_path / "b") == ["step-000002", "step-000006"]
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == names(tmp_path / "b")
    assert digest(last) == expected


def test_a_full_disk_at_the_end_is_an_error_that_names_what_is_intact(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(vocab_size=data.tokenizer.vocab_size)
    expected = digest(make_run(plan, data, tmp_path / "a")(resume=False))
    free = full_at(6, monkeypatch)
    with pytest.raises(RhapsodeError, match=r"step 6 is not saved: the disk is full.*step-000004 is intact") as caught:
        make_run(plan, data, tmp_path / "b")(resume=False)
    assert "go on with --resume" in caught.value.hint
    assert whole(tmp_path / "b") == ["step-000002", "step-000004"]
    free()
    assert digest(make_run(plan, data, tmp_path / "b")(resume=True)) == expected


def test_a_disk_that_is_really_full_and_then_is_not(data: Data, tmp_path: Path, small_disk: Path) -> None:
    plan, heard = make_plan(vocab_size=data.tokenizer.vocab_size, keep=1, samples=0), Heard()
    expected = digest(make_run(plan, data, tmp_path)(resume=False))
    ballast = small_disk / "ballast"

    def fill(event: Event) -> None:
        if event.kind == "step" and event.fields["step"] == 3:
            run._checkpoints.wait()
            room = os.statvfs(small_disk)
            ballast.write_bytes(b"x" * (room.f_bavail * room.f_frsize - (60 << 10)))
        if event.kind == "step" and event.fields["step"] == 5:
            run._checkpoints.wait()
            ballast.unlink()

    run = make_run(plan, data, small_disk / "run", events=Events(heard, fill))
    assert digest(run(resume=False)) == expected
    assert heard.of("save_failed", "step") == [4]
    assert heard.of("saved", "step") == [2, 6]


def test_a_directory_that_cannot_be_written_for_a_while(data: Data, tmp_path: Path, small_disk: Path) -> None:
    plan, heard = make_plan(vocab_size=data.tokenizer.vocab_size, keep=1, samples=0), Heard()
    expected = digest(make_run(plan, data, tmp_path)(resume=False))

    def remount(how: str) -> None:
        run._checkpoints.wait()
        subprocess.run(["mount", "-o", f"remount,{how}", str(small_disk)], check=True)

    def protect(event: Event) -> None:
        if event.kind == "step" and event.fields["step"] in (3, 5):
            remount("ro" if event.fields["step"] == 3 else "rw")

    run = make_run(plan, data, small_disk / "run", events=Events(heard, protect))
    assert digest(run(resume=False)) == expected
    assert heard.of("save_failed", "step") == [4]
    assert "Read-only file system" in heard.of("save_failed", "reason")[0]


def test_what_cannot_be_removed_is_told_and_the_new_checkpoint_counts(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, heard, calls = make_plan(vocab_size=data.tokenizer.vocab_size, samples=0), Heard(), itertools.count()
    real = policy.remove_old

    def fail_once(*arguments: Any, **options: Any) -> None:
        if next(calls) == 2:  # before the run, after step 2, after step 4
            raise OSError(errno.EACCES, os.strerror(errno.EACCES), "step-000000")
        real(*arguments, **options)

    monkeypatch.setattr(policy, "remove_old", fail_once)
    make_run(plan, data, tmp_path, events=Events(heard))(resume=False)
    assert heard.of("saved", "step") == [2, 4, 6]
    assert heard.of("save_failed", "intact") == [str(tmp_path / "step-000004")]
    assert "superfluous checkpoints could not be removed" in heard.of("save_failed", "message")[0]


def test_every_checkpoint_that_stays_has_its_evidence(data: Data, tmp_path: Path) -> None:
    plan = make_plan(vocab_size=data.tokenizer.vocab_size, steps=9, keep=2, keep_every=3, validate_every=1)
    make_run(plan, data, tmp_path)(resume=False)
    assert {"step-000003", "step-000006", "step-000008", "step-000009"} <= set(whole(tmp_path))
    for path in checkpoints(tmp_path):
        assert any(name.startswith("conformance/") for name in read_manifest(path).files)


def test_the_best_checkpoint_stays_and_a_resumed_run_knows_it_again(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(vocab_size=data.tokenizer.vocab_size, steps=8, save_every=1, keep=1, validate_every=1)
    bits = {0: 9.0, 1: 5.0, 2: 3.0, 3: 4.0, 4: 3.5, 5: 3.2, 6: 2.9, 7: 3.1, 8: 3.3}

    def go_on(*, until: int, resume: bool) -> None:
        wish = StopWish()
        run = make_run(plan, data, tmp_path, wish=wish, events=Events(lambda event: stop(event)))

        def stop(event: Event) -> None:
            if event.kind == "step" and event.fields["step"] == until:
                wish(signal.SIGTERM, None)

        monkeypatch.setattr(run, "_looks", lambda trainer: bits[trainer.state.step])
        run(resume=resume)

    with pytest.raises(Interrupted, match="stopped at step 4"):
        go_on(until=4, resume=False)
    assert whole(tmp_path) == ["step-000002", "step-000004"]
    go_on(until=99, resume=True)
    assert whole(tmp_path) == ["step-000006", "step-000008"]
    assert read_state(tmp_path / "step-000006").bits_per_byte == 2.9
