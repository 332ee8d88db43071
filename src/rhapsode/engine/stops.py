"""Stop strings in a text that arrives in pieces.

What may still become a stop string is held back, so no part of one is ever given out.
"""

from collections.abc import Sequence

from rhapsode.engine.sampling import ParameterError

MAX_STOPS = 4
MAX_STOP_CHARS = 128


class StopStrings:
    """Text goes in by `push`; what is certain not to belong to a stop string comes out."""

    def __init__(self, stops: Sequence[str] = ()) -> None:
        if len(stops) > MAX_STOPS:
            raise ParameterError("stop", f"stop has {len(stops)} strings", f"give at most {MAX_STOPS}")
        for stop in stops:
            if not 1 <= len(stop) <= MAX_STOP_CHARS:
                raise ParameterError("stop", f"a stop string has {len(stop)} characters", f"give 1 to {MAX_STOP_CHARS}")
        self._stops = tuple(stops)
        self._held = ""
        self.is_met = False

    def push(self, text: str) -> str:
        """Text that is safe to give out. After `is_met` there is no more; the stop string is not part of it."""
        if self.is_met:
            return ""
        self._held += text
        ends = [(place + len(stop), place) for stop in self._stops if (place := self._held.find(stop)) >= 0]
        if ends:
            self.is_met = True
            _, start = min(ends)  # the one that is complete first, however the text was cut into pieces
            safe, self._held = self._held[:start], ""
            return safe
        keep = max((_begun(self._held, stop) for stop in self._stops), default=0)
        cut = len(self._held) - keep
        safe, self._held = self._held[:cut], self._held[cut:]
        return safe

    def finish(self) -> str:
        """Nothing more comes: what was held back is text after all."""
        safe, self._held = self._held, ""
        return safe


def _begun(text: str, stop: str) -> int:
    """Length of the longest end of `text` with which `stop` begins, the whole of it excluded."""
    longest = min(len(text), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)
