"""What long work is doing, told on standard error.

A listener of events: "progress" and "step" events move a bar with its rate and the time left, or, where there is no
terminal, give a plain line now and then; a few other kinds are told in a sentence. The code that works knows nothing
of it.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from rhapsode.cli.console import print_warning, stderr
from rhapsode.core.events import Event, Events
from rhapsode.core.units import format_bytes, format_count, format_seconds

LINE_SECONDS = 10.0
"""Without a terminal, a stage speaks at its end and at most this often before."""


@dataclass
class Stage:
    """How far one kind of work has come. `note` is a few words of its own, such as the loss."""

    name: str
    started: float
    unit: str = ""
    done: float = 0
    total: float | None = None
    note: str = ""
    first: float = 0
    """What was done when the stage was first heard of, by an earlier run for example: no part of the rate."""

    def describe(self, now: float) -> str:
        """For example "1.2 MB of 4.0 MB, 300.0 kB/s, 9.3 s left"."""
        seconds, show = now - self.started, format_bytes if self.unit == "bytes" else format_count
        unit = "" if self.unit in ("", "bytes") else f" {self.unit}"
        is_over = self.total is None or self.done >= self.total
        parts = [show(self.done) + unit if is_over else f"{show(self.done)} of {show(self.total or 0)}{unit}"]
        rate = (self.done - self.first) / seconds if seconds > 0 else 0
        if rate > 0:
            parts.append(f"{show(rate) if rate >= 10 or show is format_bytes else f'{rate:.1f}'}{unit}/s")
        if not is_over and self.total and rate > 0:
            parts.append(f"{format_seconds((self.total - self.done) / rate)} left")
        else:
            parts.append(format_seconds(seconds))
        return ", ".join([*parts, self.note] if self.note else parts)


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
        bar = self._bars[stage.name]
        self._progress.update(bar, completed=stage.done, total=stage.total, text=stage.describe(now))

    def end(self, stage: Stage, now: float) -> None:
        self.update(stage, now)
        self._progress.update(self._bars.pop(stage.name), total=stage.done or 1, completed=stage.done or 1)


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


def as_progress(event: Event) -> Mapping[str, Any] | None:
    """The fields of a "progress" event; a training step is progress too."""
    if event.kind == "progress":
        return event.fields
    if event.kind == "step":
        loss, speed = event.fields["loss"], format_count(event.fields["tokens_per_second"])
        note = f"loss {loss:.3f}, {speed} tokens/s, {event.fields['utilisation']:.0%} of the machine's peak"
        return {
            "stage": "train",
            "done": event.fields["step"],
            "total": event.fields["steps"],
            "unit": "steps",
            "note": note,
        }
    return None


TITLES = {
    "prepare": "Reading, cleaning and splitting the text",
    "tokenise": "Writing the text as tokens, with a vocabulary that is learned or given",
    "forecast": "Taking two real steps to forecast the cost",
    "train": "Training",
    "evaluate": "Measuring on held-out documents",
    "fetch": "Fetching the model",
    "convert": "Checking its weights, and converting them where they must be",
    "conformance": "Writing down what it says, as evidence for every reader",
    "write": "Writing the model",
    "prove": "Proving it: reading it back, and in llama.cpp",
}
SENTENCES = {
    "corpus": "{read:,} documents read, {kept:,} kept, {dropped:,} dropped, each for a reason that "
    "{path}/report.json tells",
    "tokens": "{tokens:,} tokens to learn from, {bytes_per_token:.2f} bytes each, in {rows:,} rows of {context}, "
    "{efficiency:.1%} filled; {held_out_documents} documents are held out and never trained on",
    "changed": "The plan has changed since it was last made ({hashes}):\n{listed}",
    "validation": "step {step}: {bits_per_byte:.3f} bits per byte on held-out documents",
    "saved": "saved {path}",
    "measuring": "Measuring this machine once, which takes about two seconds; `rhapsode doctor` measures again",
    "licence": "Licence: {name}, {url}\nIt asks: {asks}\nIts text: {place}",
}
WARNINGS = {
    "damaged": "{path} is passed over: {reason}",
    "warning": "{message}",
}


class Watcher:
    """The listener. A stage ends when another begins or nothing more comes."""

    def __init__(self, display: Display, console: Console) -> None:
        self._display = display
        self._console = console
        self._stage: Stage | None = None
        self._now = 0.0

    def __call__(self, event: Event) -> None:
        if event.kind == "stage":
            self._begin_or_end(event.fields)
        elif event.kind in SENTENCES:
            self._console.print(SENTENCES[event.kind].format(**event.fields), soft_wrap=True)
        elif event.kind in WARNINGS:
            print_warning(WARNINGS[event.kind].format(**event.fields))
        elif (fields := as_progress(event)) is not None:
            self._now = event.time
            self._move(fields)

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
        self._stage.unit, self._stage.note = fields.get("unit", ""), fields.get("note", "")
        self._stage.done, self._stage.total = done, fields.get("total")
        self._display.update(self._stage, self._now)


@contextlib.contextmanager
def watched(*, clock: Callable[[], float] = time.time) -> Iterator[Events]:
    """Events whose progress is shown on standard error."""
    console = stderr()
    if not console.is_terminal:
        watcher = Watcher(Lines(console), console)
        yield Events(watcher, clock=clock)
        watcher.finish()
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[text]}", markup=False),
    )
    with Progress(*columns, console=console) as progress:
        watcher = Watcher(Bars(progress), console)
        yield Events(watcher, clock=clock)
        watcher.finish()
