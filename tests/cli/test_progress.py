import io

import pytest
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from rhapsode.cli.progress import Bars, Lines, Watcher, bar_width
from rhapsode.core.events import Events


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Scene:
    """A watcher that writes plain lines to memory, and a clock that stands still."""

    def __init__(self) -> None:
        self.clock, self.console = Clock(), Console(file=io.StringIO(), width=120, markup=False)
        self.watcher = Watcher(Lines(self.console), self.console)
        self.events = Events(self.watcher, clock=self.clock)

    def emit(self, second: float, kind: str = "progress", **fields: object) -> None:
        self.clock.now = 1000.0 + second
        self.events.emit(kind, **fields)

    def lines(self) -> list[str]:
        return self.console.file.getvalue().splitlines()


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_a_stage_speaks_now_and_then_and_at_its_end(scene):
    for second in range(26):
        scene.emit(second, stage="read", done=second * 1_000_000, total=25_000_000, unit="bytes")
    scene.watcher.finish()
    assert scene.lines() == [
        "read: 10.0 MB of 25.0 MB, 1.0 MB/s, 15.0 s left",
        "read: 20.0 MB of 25.0 MB, 1.0 MB/s, 5.0 s left",
        "read: 25.0 MB, 1.0 MB/s, 25.0 s",
    ]


def test_a_stage_ends_when_another_begins(scene):
    scene.emit(0, stage="read", done=0, total=4, unit="documents")
    scene.emit(2, stage="read", done=4, total=4, unit="documents")
    scene.emit(2, stage="write", done=0, total=4, unit="documents")
    assert scene.lines() == ["read: 4 documents, 2.0 documents/s, 2.0 s"]


def step(number: int, **fields: object) -> dict[str, object]:
    told = {"step": number, "steps": 200, "loss": 3.9, "smooth_loss": 3.21456, "tokens_per_second": 12_345.6}
    return told | {"utilisation": 0.5, "seconds_left": 250.0 - number, **fields}


def test_steps_are_progress_with_the_time_left_that_the_run_knows(scene):
    scene.emit(0, "validation", step=100, bits_per_byte=1.84321)
    for second in range(13):
        scene.emit(second, "step", **step(100 + 2 * second))
    assert scene.lines()[1:] == [
        "train: 120 of 200 steps, 2 min 10 s left, loss 3.215, 1.843 bits/byte, 12.3k tokens/s, 50% of peak"
    ]


def test_a_run_that_is_over_says_how_long_it_took(scene):
    scene.emit(0, "step", **step(200, seconds_left=0.0, seconds_spent=320.0))
    scene.watcher.finish()
    assert scene.lines() == ["train: 200 steps, 5 min 20 s, loss 3.215, 12.3k tokens/s, 50% of peak"]


def test_a_loss_that_is_no_number_is_told_as_such(scene):
    scene.emit(0, "step", **step(1))
    scene.emit(12, "step", **step(2, smooth_loss=None, loss=None))
    assert "loss not finite" in scene.lines()[0]


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (200, "20 of 200 steps, 3 min 50 s left, loss 3.215, 1.843 bits/byte, 12.3k tokens/s, 50% of peak"),
        (100, "20 of 200 steps, 3 min 50 s left, loss 3.215, 1.843 bits/byte, 12.3k tokens/s"),
        (80, "20 of 200 steps, 3 min 50 s left, loss 3.215, 1.843 bits/byte"),
        (60, "20 of 200 steps, 3 min 50 s left, loss 3.215"),
        (30, "20 of 200 steps"),
    ],
)
def test_a_narrow_terminal_shows_what_matters_most_on_one_line(width, expected):
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    columns = (TextColumn("{task.description}"), BarColumn(bar_width(console)), TextColumn("{task.fields[text]}"))
    with Progress(*columns, console=console) as progress:
        watcher = Watcher(Bars(progress), console)
        events = Events(watcher, clock=Clock())
        events.emit("validation", step=0, bits_per_byte=1.84321)
        events.emit("step", **step(20))
        assert progress.tasks[0].fields["text"] == expected
        lines = console.render_lines(progress.get_renderable(), console.options, pad=False)
        assert len(lines) == 1
        assert expected in "".join(segment.text for segment in lines[0])


def test_unknown_totals_give_no_time_left(scene):
    scene.emit(0, stage="read", done=0, unit="documents")
    scene.emit(10, stage="read", done=500, unit="documents")
    assert scene.lines() == ["read: 500 documents, 50 documents/s, 10.0 s"]


def test_other_events_are_told_or_passed_over(scene, capsys):
    scene.emit(0, "saved", step=3, path="out/[x]")
    scene.emit(0, "validation", step=3, bits_per_byte=1.23456)
    scene.emit(0, "nothing known", value=1)
    scene.emit(0, "warning", message="careful")
    assert scene.lines() == ["saved out/[x]", "step 3: 1.235 bits per byte on held-out documents"]
    assert capsys.readouterr().err == "warning: careful\n"


def test_bars_show_one_line_a_stage():
    console = Console(file=io.StringIO(), width=120, force_terminal=True, color_system=None)
    with Progress(TextColumn("{task.description} {task.fields[text]}"), console=console) as progress:
        watcher = Watcher(Bars(progress), console)
        events = Events(watcher, clock=Clock())
        for stage in ("read", "write"):
            for done in (0, 5, 10):
                events.emit("progress", stage=stage, done=done, total=10, unit="documents")
        watcher.finish()
        assert [(task.description, task.completed, task.finished) for task in progress.tasks] == [
            ("read", 10, True),
            ("write", 10, True),
        ]
