"""As many threads as the machine feeds, and no more."""

import os

import pytest
import torch

from rhapsode.kernels import threads
from rhapsode.kernels.threads import VARIABLE, fastest_threads, respect_quota


@pytest.mark.parametrize(("quota", "expected"), [(2, "2"), (64, None)])
def test_a_quota_limits_the_threads_unless_the_user_has_said_how_many(
    quota: int, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "allowed_processors", lambda: 64)
    monkeypatch.setattr(threads, "allowed_threads", lambda: quota)
    monkeypatch.setenv(VARIABLE, "7")
    respect_quota()
    assert os.environ[VARIABLE] == "7"
    monkeypatch.delenv(VARIABLE)
    respect_quota()
    assert os.environ.get(VARIABLE) == expected
    monkeypatch.delenv(VARIABLE, raising=False)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [({1: 2.0, 2: 1.0}, 2), ({1: 1.0, 2: 1.3}, 1), ({1: 1.03, 2: 1.0}, 1), ({2: 1.0, 4: 0.6, 8: 0.59}, 4)],
)
def test_the_fewest_threads_that_are_as_fast_as_any(seconds: dict[int, float], expected: int) -> None:
    now, before = 0.0, torch.get_num_threads()

    def work() -> None:
        nonlocal now
        now += seconds[torch.get_num_threads()]

    assert fastest_threads(tuple(seconds), work=work, clock=lambda: now) == expected
    assert torch.get_num_threads() == before
    assert fastest_threads((1, 2)) in (1, 2)  # with the real work and the real clock
