"""Progress through a stage, told a few times a second at most."""

import time

from rhapsode.core.events import Events

_PAUSE = 0.25


class Progress:
    """Counts up to `total` and emits "progress" events; the first and the last are always told."""

    def __init__(self, events: Events, *, stage: str, total: int, unit: str) -> None:
        self._events = events
        self._fields = {"stage": stage, "unit": unit}
        self._total = total
        self._done = 0
        self._last = time.monotonic()
        self._emit()

    def advance(self, count: int) -> None:
        self._done += count
        if time.monotonic() - self._last >= _PAUSE:
            self._emit()

    def finish(self) -> None:
        self._done = self._total
        self._emit()

    def _emit(self) -> None:
        self._last = time.monotonic()
        self._events.emit("progress", done=min(self._done, self._total), total=self._total, **self._fields)
