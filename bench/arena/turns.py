"""Two processes that live side by side and take turns, so that whatever disturbs the machine hits both."""

import contextlib
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import NamedTuple

REST_SECONDS = 0.3  # a process that has done its turn goes on spinning for a moment


class Step(NamedTuple):
    """Tokens that were learned from, and the loss in nats a token."""

    tokens: int
    loss: float


class Turn(NamedTuple):
    """Tokens a second over some steps, the last loss, and the most bytes that the process ever held."""

    speed: float
    loss: float
    memory: int


class Running(NamedTuple):
    """What a side is once it is built."""

    step: Callable[[], Step]
    memory: Callable[[], int]


def _serve(channel: Connection, start: Callable[[], Running]) -> None:
    """For every number received, run so many steps and tell how it went."""
    running = start()
    while steps := channel.recv():
        tokens, loss, begin = 0, 0.0, time.perf_counter()
        for _ in range(steps):
            done, loss = running.step()
            tokens += done
        channel.send(Turn(tokens / (time.perf_counter() - begin), loss, running.memory()))


class Side:
    """A long-lived process that runs steps when told to.

    Args:
        start: builds the side, in the process; a module's function or a partial of one.
        environment: what must be settled before torch is loaded there.
    """

    def __init__(self, start: Callable[[], Running], *, environment: Mapping[str, str]) -> None:
        context = multiprocessing.get_context("spawn")
        self._channel, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, start), daemon=True)
        before = dict(os.environ)
        os.environ.update(environment)
        try:
            self._process.start()
        finally:
            os.environ.clear()
            os.environ.update(before)
        theirs.close()

    def run(self, steps: int) -> Turn:
        self._channel.send(steps)
        try:
            turn: Turn = self._channel.recv()
        except (EOFError, ConnectionResetError):
            sys.exit(f"a side ended with code {self._process.exitcode}; what it said stands above")
        time.sleep(REST_SECONDS)
        return turn

    def stop(self) -> None:
        """End it, also when it never answered."""
        with contextlib.suppress(OSError):
            self._channel.send(0)
        self._process.join(timeout=10)
        self._process.kill()


class Meeting(NamedTuple):
    """All turns of both sides, round by round."""

    ours: list[Turn]
    theirs: list[Turn]

    @property
    def ratios(self) -> list[float]:
        return [a.speed / b.speed for a, b in zip(self.ours, self.theirs, strict=True)]


def meet(ours: Side, theirs: Side, *, rounds: int, steps: int, warmup: int, unit: str = "tok/s") -> Meeting:
    """Both run `steps` steps in every round; who begins alternates."""
    turns = meet_all({"ours": ours, "theirs": theirs}, rounds=rounds, steps=steps, warmup=warmup, unit=unit)
    return Meeting(turns["ours"], turns["theirs"])


def meet_all(
    sides: Mapping[str, Side], *, rounds: int, steps: int, warmup: int, unit: str = "tok/s"
) -> dict[str, list[Turn]]:
    """All run `steps` steps in every round; who begins goes round."""
    names = list(sides)
    turns: dict[str, list[Turn]] = {name: [] for name in names}
    for name, side in sides.items():
        print(f"  {name} gets ready", file=sys.stderr)
        side.run(warmup)
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            turns[name].append(sides[name].run(steps))
        speeds = " | ".join(f"{name} {turns[name][-1].speed:.3g}" for name in names)
        print(f"  round {number + 1} of {rounds}: {speeds} {unit}", file=sys.stderr)
    return turns
