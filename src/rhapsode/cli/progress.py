"""What long work is doing, told on standard error.

A listener of events: "progress" and "step" events move a bar with its rate and the time left, or, where there is no
terminal, give a plain line now and then; a few other kinds are told in a sentence. The code that works knows nothing
of it.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from rhapsode.cli.console import print_warning, stderr
from rhapsode.cli.sentences import TITLES, sentence, warning
from rhapsode.core.events import Event, Events
from rhapsode.core.units import format_bytes, format_count, format_seconds

LINE_SECONDS = 10.0
"""Without a terminal, a stage speaks at its end and at most this often before."""


@dataclass
class Stage:
    """How far one kind of work has come. `notes` are a few words of its own each, the most important first."""

    name: str
    started: float
    unit: str = ""
    done: float = 0
    total: float | None = None
    notes: Sequence[str] = ()
    left: float | None = None
    spent: float | None = None
    """Seconds, where the one who works knows better than the rate and the time since the stage was heard of."""
    first: float = 0
    """What was done when the stage was first heard of, by an earlier run for example: no part of the rate."""

    def describe(self, now: float, *, width: int | None = None) -> str:
        """For example "1.2 MB of 4.0 MB, 300.0 kB/s, 9.3 s left". What does not fit into `width` is left out."""
        seconds, show = now - self.started, format_bytes if self.unit == "bytes" else format_count
        unit = "" if self.unit in ("", "bytes") else f" {self.unit}"
        is_over = self.total is None or self.done >= self.total
        parts = [show(self.done) + unit if is_over else f"{show(self.done)} of {show(self.total or 0)}{unit}"]
        rate = (self.done - self.first) / seconds if seconds > 0 else 0
        if rate > 0 and self.left is None:
            parts.append(f"{show(rate) if rate >= 10 or show is format_bytes else f'{rate:.1f}'}{unit}/s")
        left = (self.total - self.done) / rate if self.left is None and self.total and rate > 0 else self.left
        spent = seconds if self.spent is None else self.spent
        parts.append(format_seconds(spent) if is_over or left is None else f"{format_seconds(left)} left")
        return _fitting([*parts, *self.notes], width)


def _fitting(parts: Sequence[str], width: int | None) -> str:
    """As many parts as fit, in their order; the first in any case."""
    text = parts[0]
    for part in parts[1:]:
        if width is not None and len(text) + 2 + len(part) > width:
            break
        text = f"{text}, {part}"
    return text


class Display(Protocol):
    """A way to show a stage again and again."""

    def update(self, stage: Stage, now: float) -> None: ...
    def end(self, stage: Stage, now: float) -> None: ...


class Bars:
    """One live bar a stage, for a terminal."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bars: dict[str, TaskID] = {}

    def update(self, stage: Stage, now: float) -> None:
        if stage.name not in self._bars:
            self._bars[stage.name] = self._progress.add_task(stage.name, total=None, text="")
        console = self._progress.console
        names = max(len(task.description) for task in self._progress.tasks)
        # name, bar and text are a space apart, and a full line would wrap in some terminals
        text = stage.describe(now, width=console.width - names - bar_width(console) - 3)
        self._progress.update(self._bars[stage.name], completed=stage.done, total=stage.total, text=text)

    def end(self, stage: Stage, now: float) -> None:
        self.update(stage, now)
        self._progress.update(self._bars.pop(stage.name), total=stage.done or 1, completed=stage.done or 1)


def bar_width(console: Console) -> int:
    """A short bar: what it says is also written, and words need the room."""
    return max(6, min(30, console.width // 8))


class Lines:
    """Plain lines, for a file or a pipe."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._spoke: dict[str, float] = {}

    def update(self, stage: Stage, now: float) -> None:
        if now - self._spoke.get(stage.name, stage.started) >= LINE_SECONDS:
            self._say(stage, now)

    def end(self, stage: Stage, now: float) -> None:
        self._say(stage, now)

    def _say(self, stage: Stage, now: float) -> None:
        self._spoke[stage.name] = now
        self._console.print(f"{stage.name}: {stage.describe(now)}", soft_wrap=True)


def as_progress(event: Event, *, bits_per_byte: float | None = None) -> Mapping[str, Any] | None:
    """The fields of a "progress" event; a training step is progress too.

    Args:
        bits_per_byte: of the last look at held-out text.
    """
    if event.kind == "progress":
        return event.fields
    if event.kind != "step":
        return None
    fields = event.fields
    loss = fields.get("smooth_loss", fields["loss"])
    notes = ["loss not finite" if loss is None else f"loss {loss:.3f}"]
    if "reward" in fields:  # the loss of a policy says nothing: it is 0 where advantages add up to it
        notes = [f"reward {fields['reward']:.3f}", f"{fields['solved']:.0%} solved"]
    if bits_per_byte is not None:
        notes.append(f"{bits_per_byte:.3f} bits/byte")
    notes += [f"{format_count(fields['tokens_per_second'])} tokens/s", f"{fields['utilisation']:.0%} of peak"]
    return {
        "stage": "train",
        "done": fields["step"],
        "total": fields["steps"],
        "unit": "steps",
        "left": fields["seconds_left"],
        "spent": fields.get("seconds_spent"),
        "notes": notes,
    }


class Watcher:
    """The listener. A stage ends when another begins or nothing more comes."""

    def __init__(self, display: Display, console: Console) -> None:
        self._display = display
        self._console = console
        self._stage: Stage | None = None
        self._now = 0.0
        self._bits: float | None = None

    def __call__(self, event: Event) -> None:
        if event.kind == "stage":
            self._begin_or_end(event.fields)
        elif (said := sentence(event.kind, event.fields)) is not None:
            self._console.print(said, soft_wrap=True, style="dim" if event.kind == "samples" else None)
        elif (said := warning(event.kind, event.fields)) is not None:
            print_warning(said)
        elif (fields := as_progress(event, bits_per_byte=self._bits)) is not None:
            self._now = event.time
            self._move(fields)
        if event.kind == "validation":
            is_of_bytes = event.fields.get("unit", "bits per byte") == "bits per byte"
            self._bits = event.fields["bits_per_byte"] if is_of_bytes else None

    def finish(self) -> None:
        """Say the last word on the stage that runs, if one does."""
        if self._stage is not None:
            self._display.end(self._stage, self._now)
        self._stage = None

    def _begin_or_end(self, fields: Mapping[str, Any]) -> None:
        self.finish()
        if fields["state"] == "begins":
            self._console.print(TITLES.get(fields["name"], fields["name"]), style="bold", soft_wrap=True)

    def _move(self, fields: Mapping[str, Any]) -> None:
        name, done = fields["stage"], fields["done"]
        if self._stage is None or self._stage.name != name or done < self._stage.done:
            self.finish()
            self._stage = Stage(name, self._now, first=done)
        self._stage.unit, self._stage.left = fields.get("unit", ""), fields.get("left")
        self._stage.spent = fields.get("spent")
        self._stage.notes = fields.get("notes") or [note for note in (fields.get("note"),) if note]
        self._stage.done, self._stage.total = done, fields.get("total")
        self._display.update(self._stage, self._now)


@contextlib.contextmanager
def watched(*, clock: Callable[[], float] = time.time) -> Iterator[Events]:
    """Events whose progress is shown on standard error."""
    with watching() as watcher:
        yield Events(watcher, clock=clock)


@contextlib.contextmanager
def watching() -> Iterator[Watcher]:
    """A listener that shows what it hears on standard error."""
    console = stderr()
    if not console.is_terminal:
        watcher = Watcher(Lines(console), console)
        yield watcher
        watcher.finish()
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=bar_width(console)),
        TextColumn("{task.fields[text]}", markup=False),
    )
    with Progress(*columns, console=console) as progress:
        watcher = Watcher(Bars(progress), console)
        yield watcher
        watcher.finish()
