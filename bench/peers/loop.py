"""The loop that people write: forward, backward, clip, a fused AdamW, and every loss is read."""

import math
from typing import NamedTuple, Protocol

import torch
from arena.shape import Shape
from torch import Tensor, nn

CLIP = 1.0


class Habits(NamedTuple):
    """How a project trains from scratch by default.

    Attributes:
        rate: peak learning rate of AdamW.
        floor: share of it that is left at the end.
        shape: of the way down: constant, linear or cosine.
        warmup: share of the run in which the rate rises.
        decays_all: whether vectors decay as matrices do.
    """

    rate: float
    betas: tuple[float, float]
    weight_decay: float
    shape: str
    floor: float
    warmup: float
    decays_all: bool

    def share(self, done: float) -> float:
        """The share of the peak rate when so much of the time is spent, from 0 to 1."""
        if done < self.warmup:
            return done / self.warmup
        left = 1 - (done - self.warmup) / (1 - self.warmup)
        fall = {"constant": 1.0, "linear": left, "cosine": (1 - math.cos(math.pi * left)) / 2}[self.shape]
        return self.floor + (1 - self.floor) * max(0.0, fall)


class How(NamedTuple):
    """The numbers behind a run: bf16 autocast over float32 weights or weights in bf16; eager or compiled."""

    autocast: bool
    compiled: bool


class Peer(Protocol):
    """A model of somebody else."""

    model: nn.Module

    def loss(self, model: nn.Module, ids: Tensor, targets: Tensor) -> Tensor:
        """The mean over all targets, by `model`, which may be the compiled one."""

    def scores(self, ids: Tensor) -> Tensor:
        """[B,T] -> [B,T,V]."""


class Loop:
    """A peer in training. Every step reads a batch [rows, context + 1]."""

    def __init__(self, peer: Peer, *, how: How, habits: Habits, device: torch.device) -> None:
        self._peer, self._device, self._autocast, self._habits = peer, device, how.autocast, habits
        if not how.autocast:
            peer.model.to(torch.bfloat16)
        peer.model.to(device).train()
        self._model: nn.Module = torch.compile(peer.model) if how.compiled else peer.model  # type: ignore[assignment]
        self._optimizer = torch.optim.AdamW(_groups(peer.model, habits), lr=habits.rate, betas=habits.betas, fused=True)

    def warm_up(self, rows: Tensor) -> None:
        """Compile, and touch the memory; no weight moves."""
        self._backward(rows)
        self._optimizer.zero_grad()

    def step(self, rows: Tensor, *, share: float = 1.0) -> float:
        """One step at this share of the peak rate; the loss in nats a token."""
        for group in self._optimizer.param_groups:
            group["lr"] = self._habits.rate * share
        loss = self._backward(rows)
        nn.utils.clip_grad_norm_(self._peer.model.parameters(), CLIP)
        self._optimizer.step()
        self._optimizer.zero_grad()
        return float(loss)

    @torch.no_grad()
    def scores(self, ids: Tensor) -> Tensor:
        """ids [B,T] -> [B,T,V] in float32, computed as in training."""
        self._peer.model.eval()
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._autocast):
            found = self._peer.scores(ids)
        self._peer.model.train()
        return found.float()

    def _backward(self, rows: Tensor) -> Tensor:
        rows = rows.to(self._device)
        ids, targets = rows[:, :-1].contiguous(), rows[:, 1:].contiguous()
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._autocast):
            loss = self._peer.loss(self._model, ids, targets)
        loss.backward()
        return loss.detach()


def _groups(model: nn.Module, habits: Habits) -> list[dict[str, object]]:
    matrices = [p for p in model.parameters() if p.ndim > 1 or habits.decays_all]
    vectors = [p for p in model.parameters() if p.ndim <= 1 and not habits.decays_all]
    groups = [(matrices, habits.weight_decay), (vectors, 0.0)]
    return [{"params": params, "weight_decay": decay} for params, decay in groups if params]


class Build(Protocol):
    """A peer with fresh weights."""

    def __call__(self, shape: Shape, *, seed: int) -> Peer: ...
