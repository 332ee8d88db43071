"""How long a run still takes: steps, and the looks and checkpoints that lie between here and the end.

A checkpoint is written while training goes on and costs it little; only the last one is waited for: the `ending`.

A lap of wall time belongs to what ended it, so nothing is forgotten: loading, listeners and pauses count too. What a
lap of a kind costs is the mean of the recent ones, none of which counts for much more than their median: one slow step
does not swing it, and many that are a little slow are not lost, as they would be in the median itself. How many are
recent depends on whether the machine has changed its speed.
"""

import itertools
import math
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

Kind = Literal["steps", "looks", "saves"]
KINDS: tuple[Kind, ...] = ("steps", "looks", "saves")

WINDOWS: dict[Kind, tuple[int, ...]] = {"steps": (512, 256, 128, 64, 32), "looks": (5,), "saves": (5,)}
"""Laps that the cost of a kind is taken from: noise asks for many, but a machine that others use too is faster or
slower from one minute to the next. The longest window holds whose mean is that of the shortest, as far as noise lets
one say."""
SURPRISE = 3.5
"""Standard errors from which on the newest laps are not of the same kind as those before."""
CAP = 5.0
"""No lap counts for more medians than this, and among few laps for fewer: see `capped`."""
A_FEW = 16
FORWARD_SHARE = 1 / 3
"""Of a step's operations: a look goes forward only."""


class Pace:
    """What one lap of a kind costs, learned from those that were done."""

    def __init__(self, windows: Sequence[int]) -> None:
        self._windows, self._laps = windows, deque[float](maxlen=windows[0])
        self._first: float | None = None

    def add(self, seconds: float) -> None:
        """The first lap pays for memory, caches and compilation, so it counts only while it is the only one."""
        if self._first is None:
            self._first = seconds
        else:
            self._laps.append(seconds)

    @property
    def is_known(self) -> bool:
        """Whether there was a lap besides the first."""
        return bool(self._laps)

    def seconds(self) -> float | None:
        """Of the next lap, about; None before there was one."""
        if not self._laps:
            return self._first
        laps = capped(self._laps)
        *longer, shortest = self._windows
        newest = laps[-shortest:]
        mean = statistics.fmean(newest)
        for window in longer:
            found = statistics.fmean(laps[-window:])
            deviation = math.sqrt(statistics.fmean((lap - found) ** 2 for lap in laps[-window:]))
            if abs(mean - found) <= SURPRISE * deviation / math.sqrt(len(newest)):
                return found
        return mean


def capped(laps: Iterable[float]) -> list[float]:
    """Very slow laps are cut: to a median and a half among eight, to `CAP` medians among many."""
    values = list(laps)
    most = min(CAP, 1 + len(values) / A_FEW) * statistics.median(values)
    return [min(value, most) for value in values]


class Clock:
    """Wall time of a run by kind, and what is left.

    Args:
        steps: of the whole run.
        look_every, save_every: steps between two; with several numbers there is one at the multiples of each. The last
            step has a look in any case.
        look_share: tokens of a look for each token of a step, to know its cost before the first one.
    """

    def __init__(
        self,
        *,
        steps: int,
        look_every: Sequence[int],
        save_every: Sequence[int],
        look_share: float,
        now: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._steps, self._every, self._now = steps, dict[Kind, Sequence[int]](looks=look_every, saves=save_every), now
        self._look_share = look_share
        self._paces = {kind: Pace(WINDOWS[kind]) for kind in KINDS}
        self._done_at: dict[Kind, int] = {}
        self._start = self._last = now()
        self.ending = 0.0
        """Seconds that the run takes after its last step and its last look, as far as is known."""
        self.seconds_by: dict[Kind, float] = dict.fromkeys(KINDS, 0.0)

    def begin(self) -> None:
        """The run begins now; what came before is not part of it."""
        self._start = self._last = self._now()

    @property
    def seconds(self) -> float:
        """Since the run began."""
        return self._now() - self._start

    def lap(self, kind: Kind, *, step: int) -> float:
        """What went on since the last lap was of this kind; `step` steps are done. Gives its seconds."""
        now = self._now()
        seconds, self._last = now - self._last, now
        self._paces[kind].add(seconds)
        self._done_at[kind] = step
        self.seconds_by[kind] += seconds
        return seconds

    @property
    def step_seconds(self) -> float | None:
        """Of a step, about; None before the first."""
        return self._paces["steps"].seconds()

    def left(self, step: int) -> float:
        """Seconds until the end of the run, when `step` steps are done."""
        a_step = self.step_seconds
        if a_step is None:
            return 0.0
        a_look = self._look_seconds(a_step)
        # a checkpoint before the first one: nobody knows, and it is small beside the steps between two
        a_save = self._paces["saves"].seconds() or 0.0
        besides = self._looks_to_come(step) * a_look + self._saves_to_come(step) * a_save
        return (self._steps - step) * a_step + besides + self.ending

    def _look_seconds(self, a_step: float) -> float:
        """The first look, before the first step, pays for what later ones reuse: at most double counts of it."""
        pace, counted = self._paces["looks"], a_step * self._look_share * FORWARD_SHARE
        if pace.is_known:
            return pace.seconds() or 0.0
        return min(pace.seconds() or counted, 2 * counted)

    def _looks_to_come(self, step: int) -> int:
        """From here on; that of this very step included if it has not been yet."""
        if self._done_at.get("looks") == step == self._steps:
            return 0
        is_besides = all(self._steps % each for each in self._every["looks"])
        return self._between("looks", step, self._steps) + is_besides

    def _saves_to_come(self, step: int) -> int:
        """The same, without the one after the last step."""
        return self._between("saves", step, self._steps - 1)

    def _between(self, kind: Kind, step: int, last: int) -> int:
        before = step if self._done_at.get(kind) == step else step - 1
        every = self._every[kind]
        return max(0, _multiples(last, every) - _multiples(max(before, 0), every))


def _multiples(last: int, every: Sequence[int]) -> int:
    """Numbers from 1 to `last` that are multiples of any of `every`: of one, less those counted twice, and so on."""
    sets = [chosen for count in range(1, len(every) + 1) for chosen in itertools.combinations(every, count)]
    return sum((-1) ** (len(chosen) + 1) * (last // math.lcm(*chosen)) for chosen in sets)
