"""Watching a run from another terminal: its past in short, its present, and how it ended."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rhapsode.cli.app import run
from rhapsode.cli.watch import in_short, watch
from rhapsode.core.events import Event, Events, JsonLines, read_events
from rhapsode.core.lock import locked

STEP = {"steps": 40, "loss": 3.0, "tokens_per_second": 1000.0, "utilisation": 0.5, "moved": True}


class Clock:
    """An hour passes at every look, so that without a terminal every step is worth a line."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 3600.0
        return self.now


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    path = tmp_path / "out" / "runs" / "verses"
    path.mkdir(parents=True)
    return path


@pytest.fixture
def events(run_dir: Path) -> Iterator[Events]:
    """Of a run whose journal is written to `run_dir`."""
    with JsonLines(run_dir / "events.jsonl") as journal:
        yield Events(journal, clock=Clock())


def begin(events: Events, *, step: int = 0) -> None:
    events.emit("stage", name="prepare", state="begins")
    events.emit("stage", name="prepare", state="done", seconds=1.0)
    events.emit("stage", name="train", state="begins")
    events.emit("begin", step=step, steps=40, resumed=None)


def steps(events: Events, first: int, last: int) -> None:
    for step in range(first, last + 1):
        events.emit("step", step=step, seconds_left=40.0 - step, **STEP)


def test_a_run_under_way_is_followed_to_its_end(run_dir, events, capsys):
    def go_on() -> None:
        told = capsys.readouterr().err
        heard.append(told)
        if len(heard) == 1:
            steps(events, 11, 12)
            with (run_dir / "events.jsonl").open("a") as file:
                file.write('{"event": "saved", "time": 1, "pa')  # a line that is not complete yet
        elif len(heard) == 2:
            with (run_dir / "events.jsonl").open("a") as file:
                file.write('th": "step-000012"}\n')
        else:
            events.emit("end", state="done", message="")
            (run_dir / "report.html").write_text("")
            held.__exit__(None, None, None)

    heard: list[str] = []
    begin(events)
    events.emit("validation", step=5, bits_per_byte=2.5)
    steps(events, 1, 10)
    held = locked(run_dir)
    held.__enter__()
    assert watch(run_dir, pause=go_on) == "done"
    assert heard[0].splitlines() == [
        "Reading, cleaning and splitting the text",
        "Training",
        "step 5: 2.500 bits per byte on held-out documents",
    ]
    assert heard[1].splitlines()[0].startswith("train: 11 of 40 steps, 29.0 s left, loss 3.000, 2.500 bits/byte")
    assert heard[2] == "saved step-000012\n"
    rest = capsys.readouterr().err
    assert "the run is over" in rest
    assert f"look at it    {run_dir}/report.html" in rest


@pytest.mark.parametrize(
    ("state", "message", "words"),
    [
        ("stopped", "stopped at step 3 of 40; saved step-000003", "the run is over: stopped at step 3"),
        ("failed", "the disk is full", "warning: the run failed: the disk is full"),
        (None, "", "warning: the process ended without a word; `rhapsode train RECIPE --resume` goes on from"),
    ],
)
def test_how_a_run_ended_is_told(state, message, words, run_dir, events, capsys):
    begin(events)
    steps(events, 1, 3)
    if state:
        events.emit("end", state=state, message=message)
    assert watch(run_dir) == (state or "silent")
    assert words in capsys.readouterr().err


def test_a_killed_process_is_noticed(run_dir, events, capsys):
    begin(events)
    hold = "import sys, pathlib, rhapsode.core.lock as lock\nwith lock.locked(pathlib.Path(sys.argv[1])):\n"
    hold += "    print('held', flush=True)\n    sys.stdin.read()\n"
    command = [sys.executable, "-c", hold, str(run_dir)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        pauses = []

        def kill() -> None:
            pauses.append(1)
            os.kill(process.pid, signal.SIGKILL)
            process.wait()

        assert watch(run_dir, pause=kill) == "silent"
        assert pauses == [1]
    assert "ended without a word" in capsys.readouterr().err


def test_a_resumed_run_is_told_from_its_resumption_on(run_dir, events, capsys):
    begin(events)
    steps(events, 1, 20)
    events.emit("warning", message="of the first part")
    with (run_dir / "events.jsonl").open("a") as file:
        file.write('{"event": "step", "time": 3, "st')  # killed while writing
    with JsonLines(run_dir / "events.jsonl") as journal:
        resumed = Events(journal, clock=Clock())
        begin(resumed, step=10)
        steps(resumed, 11, 15)
    past = read_events(run_dir / "events.jsonl")
    told = in_short(past)
    assert [event.kind for event in told] == ["stage", "stage", "stage", "begin", "step"]
    assert told[-1].fields["step"] == 15
    assert watch(run_dir) == "silent"
    assert "of the first part" not in capsys.readouterr().err


def test_a_run_that_is_begun_anew_is_followed_anew(run_dir, events, capsys):
    def anew() -> None:
        journal = run_dir / "events.jsonl"
        journal.unlink()
        with JsonLines(journal) as lines:
            again = Events(lines, clock=Clock())
            again.emit("saved", path="from the new beginning")
            again.emit("end", state="done", message="")
        held.__exit__(None, None, None)

    begin(events)
    held = locked(run_dir)
    held.__enter__()
    assert watch(run_dir, pause=anew) == "done"
    assert "saved from the new beginning" in capsys.readouterr().err


def test_ctrl_c_leaves_the_run_alone(run_dir, events, capsys):
    def interrupt() -> None:
        raise KeyboardInterrupt

    begin(events)
    with locked(run_dir):
        assert watch(run_dir, pause=interrupt) == "running"
    assert capsys.readouterr().err.endswith("no longer watched; the run goes on\n")


def test_the_verb_takes_a_run_or_its_recipe(run_dir, events, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    begin(events)
    events.emit("end", state="done", message="")
    (tmp_path / "recipe.yaml").write_text("task: {name: verses}\ndata: {sources: [{path: recipe.yaml}]}\n")
    for arguments in (["--watch", "out/runs/verses"], ["recipe.yaml", "--watch"]):
        assert run(["train", *arguments, "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == {"run": "out/runs/verses", "state": "done"}


def test_what_is_no_run_is_named(tmp_path, capsys):
    assert run(["train", "--watch", str(tmp_path)]) == 1
    assert f"{tmp_path} is no run: it has no events.jsonl" in capsys.readouterr().err


def test_a_long_past_is_short():
    past = [Event("step", float(i), {"step": i}) for i in range(10_000)]
    assert in_short(past) == past[-1:]
