"""What happened, told once and heard by many: the terminal, events.jsonl, TensorBoard, later a studio.

The code that works emits; it knows no listener. Fields are JSON values, so every listener can write them down.
"""

import contextlib
import json
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self


class Event(NamedTuple):
    """`kind` names what happened ("progress", "step", "saved", ...), `time` is in seconds since the epoch."""

    kind: str
    time: float
    fields: dict[str, Any]


Listener = Callable[[Event], None]


class Events:
    """A list of listeners, called in order."""

    def __init__(self, *listeners: Listener, clock: Callable[[], float] = time.time) -> None:
        self._listeners = list(listeners)
        self._clock = clock

    def subscribe(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def unsubscribe(self, listener: Listener) -> None:
        self._listeners.remove(listener)

    def emit(self, kind: str, **fields: Any) -> None:
        event = Event(kind, self._clock(), fields)
        for listener in self._listeners:
            listener(event)


@contextlib.contextmanager
def stage(name: str, events: Events) -> Iterator[None]:
    """Tell when a part of the work begins, and how many seconds it took."""
    start = time.perf_counter()
    events.emit("stage", name=name, state="begins")
    yield
    events.emit("stage", name=name, state="done", seconds=round(time.perf_counter() - start, 2))


class JsonLines:
    """Appends every event but "progress" to a file, one JSON object a line, so that a crash loses at most one."""

    def __init__(self, path: Path) -> None:
        _end_with_newline(path)
        self._file = path.open("a", encoding="utf-8")

    def __call__(self, event: Event) -> None:
        if event.kind == "progress":
            return
        row = {"event": event.kind, "time": round(event.time, 3), **event.fields}
        self._file.write(json.dumps(_finite(row), ensure_ascii=False) + "\n")
        self._file.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


class Tail:
    """Reads a file of events while another process appends to it, or begins it anew."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: tuple[int, int] | None = None
        self._place, self._rest = 0, b""

    def read(self) -> list[Event]:
        """What has come since the last time. A line that is not complete yet waits for its end.

        Raises:
            OSError: the file is gone.
        """
        with self._path.open("rb") as file:
            status = os.fstat(file.fileno())
            if (status.st_dev, status.st_ino) != self._file or status.st_size < self._place:
                self._file, self._place, self._rest = (status.st_dev, status.st_ino), 0, b""
            file.seek(self._place)
            data = file.read()
        self._place += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        return _parsed(lines)


def read_events(path: Path) -> list[Event]:
    """Events of a run. A last line that a crash cut short is left out."""
    return _parsed(path.read_bytes().split(b"\n"))  # str.splitlines would also break at U+2028 within a text


def _parsed(lines: Iterable[bytes]) -> list[Event]:
    events = []
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        events.append(Event(row.pop("event"), row.pop("time"), row))
    return events


def _finite(value: Any) -> Any:
    """JSON has no infinity and no NaN, which the loss of a skipped step may be: they become null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    return [_finite(part) for part in value] if isinstance(value, list | tuple) else value


def _end_with_newline(path: Path) -> None:
    """A torn last line must not swallow the first event after a resume."""
    if path.exists() and (data := path.read_bytes()) and not data.endswith(b"\n"):
        with path.open("ab") as file:
            file.write(b"\n")
