import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhapsode.train.schedule import rate


@st.composite
def schedules(draw: st.DrawFn) -> tuple[int, int, int]:
    steps = draw(st.integers(1, 300))
    return steps, draw(st.integers(0, steps)), draw(st.integers(0, steps))


@given(schedules())
def test_the_rate_rises_stays_and_falls_and_is_never_zero(schedule: tuple[int, int, int]) -> None:
    steps, warmup, decay = schedule
    rates = [rate(step, steps=steps, warmup=warmup, decay=decay) for step in range(steps)]
    assert all(0 < r <= 1 for r in rates)
    top = rates.index(max(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    if warmup + decay <= steps:
        assert rates.count(1.0) >= steps - warmup - decay
    assert rates[0] == pytest.approx(min(1 / (warmup + 1), steps / (decay + 1), 1))
    assert rates[-1] == pytest.approx(min(1 / (decay + 1), steps / (warmup + 1), 1))


def test_a_small_one_by_hand() -> None:
    rates = [rate(step, steps=8, warmup=1, decay=3) for step in range(8)]
    assert rates == [0.5, 1, 1, 1, 1, 0.75, 0.5, 0.25]
