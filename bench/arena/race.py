"""Training against the clock: only steps count, looks at the held-out documents do not."""

import math
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from peers.loop import Habits, Loop
from torch import Tensor

from arena.documents import Stream
from arena.figures import peak_memory
from arena.held_out import HeldOut
from arena.ours import load_data, scores, settled
from arena.turns import Step
from rhapsode.corpus.tokens import Tokens
from rhapsode.model.spec import ModelSpec
from rhapsode.train.trainer import Trainer

NO_LOOKS = {"validate_every": 1_000_000}
"""The budget is all for training: looks are ours and not on the clock."""


class Racer(Protocol):
    """A side in training."""

    @property
    def is_done(self) -> bool:
        """Whether it has come to the end of what it planned."""

    def step(self, done: float) -> Step:
        """One step, when the share `done` of the time is spent."""

    def scores(self, ids: Tensor) -> Tensor: ...


class Ours:
    """A budget in minutes, as a recipe has it: the plan measures the speed and settles the steps.

    Args:
        spec: the shape; None is what the recipe's defaults make of the budget.
    """

    def __init__(self, spec: ModelSpec | None, tokens_dir: Path, *, context: int, seconds: float, seed: int) -> None:
        data = load_data(tokens_dir, context=context)
        self.plan = settled(spec, data, train={"budget": f"{seconds:g}s", "seed": seed, **NO_LOOKS}, seed=seed)
        self._trainer = Trainer(self.plan, data, device=torch.device("cpu"))
        self.habits: dict[str, Any] = {
            "optimizer": self.plan.optimizer,
            "rate": self.plan.learning_rate,
            "rows": self.plan.batch_rows,
            "micro_batch_rows": self.plan.micro_batch_rows,
            "steps": self.plan.steps,
        }

    @property
    def is_done(self) -> bool:
        return self._trainer.state.step >= self.plan.steps

    def step(self, done: float) -> Step:  # noqa: ARG002 - the plan knows its steps
        result = self._trainer.step()
        return Step(result.tokens, result.loss)

    def scores(self, ids: Tensor) -> Tensor:
        return scores(self._trainer, ids)


class Theirs:
    """A peer. Its rate follows the clock, so it always ends its schedule; it is compiled before the clock starts."""

    is_done = False

    def __init__(self, loop: Loop, habits: Habits, tokens_dir: Path, *, context: int, rows: int, seed: int) -> None:
        self._loop, self._rule = loop, habits
        self._stream = Stream(Tokens.open(tokens_dir).split("train"), context=context, rows=rows, seed=seed)
        self._steps, self._tokens = 0, rows * context
        self.habits = {"optimizer": "adamw", **habits._asdict(), "rows": rows}
        loop.warm_up(torch.from_numpy(self._stream(0)))

    def step(self, done: float) -> Step:
        rows = torch.from_numpy(self._stream(self._steps))
        self._steps += 1
        return Step(self._tokens, self._loop.step(rows, share=self._rule.share(done)))

    def scores(self, ids: Tensor) -> Tensor:
        return self._loop.scores(ids)


class Look(NamedTuple):
    """A point of the curve: seconds of training, tokens and steps until then, loss of the last step, bits per byte."""

    seconds: float
    tokens: int
    steps: int
    loss: float
    bits: dict[str, float]


class Race(NamedTuple):
    looks: list[Look]
    memory: int


def run(racer: Racer, held_out: HeldOut, *, seconds: float, look_every: float) -> Race:
    """Train for `seconds`, or until the side has done what it planned."""
    looks: list[Look] = []
    spent, tokens, steps, loss, memory, next_look = 0.0, 0, 0, math.nan, 0, look_every
    while spent < seconds and not racer.is_done:
        start = time.perf_counter()
        learned, loss = racer.step(spent / seconds)
        spent += time.perf_counter() - start
        tokens, steps = tokens + learned, steps + 1
        is_last = spent >= seconds or racer.is_done
        if spent >= next_look or is_last:
            memory = memory or peak_memory(torch.device("cpu"))  # of training: a look holds all scores at once
            looks.append(Look(spent, tokens, steps, loss, held_out(racer.scores)))
            next_look = (spent // look_every + 1) * look_every
            print(f"  {spent:6.1f} s {tokens:>10,} tokens {looks[-1].bits['all']:.4f} bits a byte", file=sys.stderr)
    return Race(looks, memory)
