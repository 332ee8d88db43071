"""`rhapsode train --watch`: what a run in another terminal is doing, from the events that it writes down.

The past is told in short, the present as the run's own terminal tells it. Nothing is asked of the run, so it may as
well be over, or on another machine that shares the disk.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rhapsode.cli.console import print_warning, stderr
from rhapsode.cli.progress import Watcher, watching
from rhapsode.core.errors import RhapsodeError
from rhapsode.core.events import Event, Tail
from rhapsode.core.lock import owner

PAUSE = 0.5
NEWEST_ALONE = ("step", "validation", "samples", "saved")
"""Kinds that come again and again: of the past, the last one counts."""
SILENT = "silent"


def find_run(given: Path, overrides: Sequence[str], *, out: Path) -> Path:
    """The directory of a run that is named by itself, or by its recipe."""
    if given.is_dir():
        return given
    from rhapsode.recipe.layout import Layout
    from rhapsode.recipe.load import load_recipe

    return Layout(out).runs / load_recipe(given, overrides).recipe.task.name


def watch(run_dir: Path, *, pause: Callable[[], None] = lambda: time.sleep(PAUSE)) -> str:
    """Show the run until it ends, or until Ctrl-C, which leaves it alone.

    Returns:
        "done", "stopped" or "failed", as the run said; "silent" if its process ended without a word; "running" if it
        was left.

    Raises:
        RhapsodeError: there is no run.
    """
    tail = Tail(run_dir / "events.jsonl")
    try:
        past = tail.read()
    except FileNotFoundError:
        raise RhapsodeError(
            f"{run_dir} is no run: it has no events.jsonl", "name a directory below out/runs, or the run's recipe"
        ) from None
    try:
        with watching() as watcher:
            for event in in_short(past):
                watcher(event)
            last = _follow(tail, run_dir, watcher, pause=pause, last=past[-1] if past else None)
    except KeyboardInterrupt:
        stderr().print("no longer watched; the run goes on")
        return "running"
    return _tell_end(last, run_dir)


def in_short(events: Sequence[Event]) -> list[Event]:
    """What a newcomer needs to know: the newest process, without the many steps that led here."""
    begins = [i for i, e in enumerate(events) if e.kind == "stage" and e.fields["name"] == "prepare"]
    start = next((i for i in reversed(begins) if events[i].fields["state"] == "begins"), 0)
    newest = {event.kind: i for i, event in enumerate(events) if event.kind in NEWEST_ALONE}
    return [e for i, e in enumerate(events) if newest.get(e.kind, i) == i and (i >= start or e.kind in newest)]


def _follow(
    tail: Tail, run_dir: Path, watcher: Watcher, *, pause: Callable[[], None], last: Event | None
) -> Event | None:
    """Pass on what comes until no process holds the run; gives the last event."""
    while True:
        is_held = owner(run_dir) is not None  # asked first: what a process wrote before it let go is then read below
        try:
            events = tail.read()
        except FileNotFoundError:  # the run is being begun anew
            events = []
        for event in events:
            watcher(event)
        last = events[-1] if events else last
        if not is_held:
            return last
        pause()


def _tell_end(last: Event | None, run_dir: Path) -> str:
    console = stderr()
    if last is None or last.kind != "end":
        print_warning(f"the process ended without a word; `rhapsode train RECIPE --resume` goes on from {run_dir}")
        return SILENT
    state, message = str(last.fields["state"]), last.fields["message"]
    if state == "failed":
        print_warning(f"the run failed: {message}")
    else:
        console.print(f"the run is over: {message}" if message else "the run is over", soft_wrap=True)
        report = run_dir / "report.html"
        if state == "done" and report.exists():
            console.print(f"look at it    {report}", soft_wrap=True)
    return state
