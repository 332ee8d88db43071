"""The time left of simulated runs: right within a tenth from the first minute on, whatever lies between the steps."""

from collections.abc import Callable, Iterator
from statistics import fmean

import numpy as np
import pytest

from rhapsode.train.time_left import Clock, capped


class FakeTime:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def simulate(
    *,
    steps: int,
    step: Callable[[int], float],
    look: float,
    save: float,
    look_every: int = 50,
    save_every: int = 200,
    start: int = 0,
) -> Iterator[tuple[float, float, float]]:
    """(seconds since the start, time left as told after each step, time that was really left)."""
    time = FakeTime()
    clock = Clock(steps=steps, look_every=(look_every,), save_every=(save_every,), look_share=1.0, now=time)
    time.now += 7.0  # reading a checkpoint
    clock.begin()
    begun, told = time.now, []
    if start == 0:
        time.now += look
        clock.lap("looks", step=0)
    for done in range(start + 1, steps + 1):
        time.now += step(done)
        clock.lap("steps", step=done)
        told.append((time.now, clock.left(done)))
        if done % look_every == 0 or done == steps:
            time.now += look
            clock.lap("looks", step=done)
        if done % save_every == 0 and done < steps:
            time.now += save
            clock.lap("saves", step=done)
            clock.ending = save
    ending = clock.left(steps)
    time.now += save
    clock.lap("saves", step=steps)
    assert ending == (save if steps > save_every else 0)
    assert clock.seconds == pytest.approx(time.now - begun) == pytest.approx(sum(clock.seconds_by.values()))
    for at, left in told:
        yield at - begun, left, time.now - at


def noisy(seconds: float, *, spread: float, seed: int, slow_share: float = 0.05) -> Callable[[int], float]:
    """Steps of uneven length, some of them three times as long: a machine that others use too."""
    random = np.random.default_rng(seed)

    def step(number: int) -> float:
        slow = 3.0 if random.random() < slow_share else 1.0
        return float(seconds * slow * np.exp(spread * random.standard_normal()))

    return step


RUNS = {
    "even steps": {"steps": 2000, "step": lambda _: 0.3, "look": 2.0, "save": 1.0},
    "noisy steps": {"steps": 2000, "step": noisy(0.3, spread=0.3, seed=1), "look": 2.0, "save": 1.0},
    "looks as long as all steps": {"steps": 1500, "step": noisy(0.2, spread=0.2, seed=2), "look": 10.0, "save": 0.5},
    "checkpoints as long as half the steps": {
        "steps": 2000,
        "step": noisy(0.3, spread=0.2, seed=3),
        "look": 0.5,
        "save": 7.5,
        "save_every": 50,
    },
    "a resumed run": {"steps": 3000, "step": noisy(0.3, spread=0.2, seed=4), "look": 2.0, "save": 2.0, "start": 1010},
    "steps of ten seconds": {
        "steps": 300,
        "step": noisy(10.0, spread=0.1, seed=5, slow_share=0.0),
        "look": 30.0,
        "save": 9.0,
    },
    "one step that hangs for a minute": {
        "steps": 2000,
        "step": lambda number: 60.0 if number == 300 else 0.3,
        "look": 2.0,
        "save": 1.0,
    },
    "a first step that compiles": {
        "steps": 2000,
        "step": lambda number: 40.0 if number == 1 else 0.3,
        "look": 2.0,
        "save": 1.0,
    },
}


@pytest.mark.parametrize("name", RUNS)
def test_time_left_is_right_within_a_tenth_after_the_first_minute(name: str) -> None:
    later = [(told, real) for at, told, real in simulate(**RUNS[name]) if at >= 60]
    assert len(later) > 100
    hang = 60.0 if "hangs" in name else 0.0  # nobody can know it before it is over
    wrong = [(told, real) for told, real in later if abs(told - real) > max(0.1 * real + hang, 3.0)]
    assert not wrong, f"{len(wrong)} of {len(later)}: {wrong[:5]}"


def test_a_machine_that_grows_slower_is_noticed_soon() -> None:
    told = [(t, r) for at, t, r in simulate(steps=4000, step=lambda n: 0.3 if n < 1000 else 0.6, look=2.0, save=1.0)]
    assert told[900][0] < 0.6 * told[900][1]
    assert told[1040][0] == pytest.approx(told[1040][1], rel=0.1)
    assert told[1600][0] == pytest.approx(told[1600][1], rel=0.1)


def test_before_the_first_step_is_done_nothing_is_claimed() -> None:
    assert Clock(steps=10, look_every=(5,), save_every=(5,), look_share=1.0).left(0) == 0


@pytest.mark.parametrize(
    ("steps", "every"), [(10, [5]), (11, [5]), (4, [5]), (1, [1]), (7, [2]), (30, [4, 6]), (31, [2, 3, 10])]
)
def test_every_look_that_is_to_come_is_counted_once(steps: int, every: list[int]) -> None:
    time = FakeTime()
    clock = Clock(steps=steps, look_every=every, save_every=(10**9,), look_share=3000.0, now=time)
    clock.begin()
    time.now += 1000.0
    clock.lap("looks", step=0)
    at = {steps, *(step for each in every for step in range(each, steps + 1, each))}
    for done in range(1, steps + 1):
        time.now += 1.0
        clock.lap("steps", step=done)
        assert round(clock.left(done) / 1000.0) == sum(look >= done for look in at)
        if done in at:
            time.now += 1000.0
            clock.lap("looks", step=done)
            assert round(clock.left(done) / 1000.0) == sum(look > done for look in at)


def test_one_slow_lap_among_many_hardly_counts_and_many_do() -> None:
    assert fmean(capped([1.0] * 99 + [1000.0])) == pytest.approx(1.04)
    assert fmean(capped([1.0] * 7 + [1000.0])) == pytest.approx(1.0625)
    assert fmean(capped([1.0] * 90 + [2.5] * 10)) == pytest.approx(1.15)
    assert capped([4.0]) == [4.0]
