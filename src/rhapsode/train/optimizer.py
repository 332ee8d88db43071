"""AdamW and Muon on float32 master weights.

Muon (Jordan et al. 2024) replaces the momentum of a matrix by the nearest matrix with all singular values one, so that
every direction of a weight learns at the same speed. What the decoder stacks for speed are separate matrices to it:
gate and up, and the queries, keys and values of every head. Embeddings, norms and a vocabulary projection of its own go
to AdamW (Loshchilov and Hutter 2019). State is plain named tensors: a checkpoint stores them as they are.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from rhapsode.kernels.adamw import Adam, adamw

# Polar Express (Amsel et al. 2025, arXiv:2505.16932), five quintics: singular values from 0.001 of a matrix's norm
# upwards end within 0.15 of one. Four are as good for two minutes and far worse once the rate falls, when it is the
# small directions that are learned (docs/experiments.md).
POLAR_EXPRESS = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)
POLAR_SAFETY = 1.02
TINY = 1e-7


class Weight(NamedTuple):
    """A trained tensor. `height` is how many rows each of the matrices has that are stacked in it; None: it is none."""

    name: str
    value: Tensor
    height: int | None


class Optimizer(Protocol):
    """Moves weights along their gradients; `scale` is the schedule's share of the peak rate."""

    def step(self, grads: Sequence[Tensor], *, scale: float) -> None: ...
    def state(self) -> dict[str, Tensor]: ...
    def load(self, state: Mapping[str, Tensor], *, steps: int) -> None: ...


class AdamW:
    """Adam with decoupled weight decay on matrices (not on norms)."""

    def __init__(
        self,
        weights: Sequence[Weight],
        *,
        learning_rate: float,
        weight_decay: float,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
    ) -> None:
        self._weights = list(weights)
        self._rate, self._betas, self._eps = learning_rate, betas, eps
        self._decay = [weight_decay if w.value.ndim > 1 else 0.0 for w in self._weights]
        self._first = [torch.zeros_like(w.value) for w in self._weights]
        self._second = [torch.zeros_like(w.value) for w in self._weights]
        self._steps = 0

    @torch.no_grad()
    def step(self, grads: Sequence[Tensor], *, scale: float) -> None:
        self._steps += 1
        rate, (beta1, beta2) = self._rate * scale, self._betas
        adam = Adam(
            beta1,
            beta2,
            rate=rate / (1 - beta1**self._steps),
            spread=(1 - beta2**self._steps) ** -0.5,
            eps=self._eps,
        )
        keeps = [1 - rate * decay for decay in self._decay]
        adamw([w.value for w in self._weights], self._first, self._second, list(grads), keeps, adam)

    def state(self) -> dict[str, Tensor]:
        moments = (("adamw.first", self._first), ("adamw.second", self._second))
        return {f"{key}/{w.name}": m for key, ms in moments for w, m in zip(self._weights, ms, strict=True)}

    def load(self, state: Mapping[str, Tensor], *, steps: int) -> None:
        for name, moment in self.state().items():
            moment.copy_(state[name])
        self._steps = steps


def orthogonalise(matrices: Tensor, *, dtype: torch.dtype) -> Tensor:
    """[M,R,C] -> the same with every singular value close to one, by products of matrices alone, in `dtype`."""
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.transpose(-1, -2) if tall else matrices
    x = (x / (torch.linalg.matrix_norm(x, keepdim=True) * POLAR_SAFETY + TINY)).to(dtype)
    for a, b, c in POLAR_EXPRESS:
        gram = torch.bmm(x, x.transpose(-1, -2))
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.transpose(-1, -2) if tall else x).to(matrices.dtype)


def scale_of(height: int, width: int) -> float:
    """What the step of a matrix is scaled with: a tall one changes more outputs."""
    return math.sqrt(max(1.0, height / width))


class Muon:
    """Nesterov momentum, orthogonalised; the step of a matrix has spectral norm rate * sqrt(max(1, height / width))."""

    def __init__(
        self,
        weights: Sequence[Weight],
        *,
        learning_rate: float,
        weight_decay: float,
        momentum: float = 0.95,
        dtype: torch.dtype = torch.bfloat16,
    ) -> None:
        self._weights = list(weights)
        self._rate, self._decay, self._beta, self._dtype = learning_rate, weight_decay, momentum, dtype
        self._momentum = [torch.zeros_like(w.value) for w in self._weights]

    @torch.no_grad()
    def step(self, grads: Sequence[Tensor], *, scale: float) -> None:
        rate = self._rate * scale
        torch._foreach_lerp_(self._momentum, list(grads), 1 - self._beta)
        nesterov = torch._foreach_lerp(list(grads), self._momentum, self._beta)
        torch._foreach_mul_([w.value for w in self._weights], 1 - rate * self._decay)
        self.move(nesterov, rate=rate)

    def move(self, nesterov: Sequence[Tensor], *, rate: float) -> None:
        """Add what needs the whole of a matrix: the orthogonal direction nearest to its momentum."""
        for (height, width), numbers in self._by_shape().items():
            matrices = [nesterov[i].view(-1, height, width) for i in numbers]
            moves = orthogonalise(torch.cat(matrices), dtype=self._dtype).split([len(each) for each in matrices])
            for i, move in zip(numbers, moves, strict=True):
                value = self._weights[i].value
                value.sub_(move.reshape(value.shape), alpha=rate * scale_of(height, width))

    def _by_shape(self) -> dict[tuple[int, int], list[int]]:
        """Matrices of equal shape are orthogonalised together: (height, width) -> numbers of weights."""
        groups: dict[tuple[int, int], list[int]] = {}
        for i, weight in enumerate(self._weights):
            assert weight.height is not None
            groups.setdefault((weight.height, weight.value.shape[1]), []).append(i)
        return groups

    def state(self) -> dict[str, Tensor]:
        return {f"muon.momentum/{w.name}": m for w, m in zip(self._weights, self._momentum, strict=True)}

    def load(self, state: Mapping[str, Tensor], *, steps: int) -> None:  # noqa: ARG002 - momentum has no bias to correct
        for name, moment in self.state().items():
            moment.copy_(state[name])


class Both:
    """Muon for what is a matrix of a block, AdamW for the rest."""

    def __init__(self, matrices: Muon, others: AdamW, *, is_matrix: Sequence[bool]) -> None:
        self._muon, self._adamw, self._is_matrix = matrices, others, list(is_matrix)

    def step(self, grads: Sequence[Tensor], *, scale: float) -> None:
        self._muon.step([g for g, m in zip(grads, self._is_matrix, strict=True) if m], scale=scale)
        self._adamw.step([g for g, m in zip(grads, self._is_matrix, strict=True) if not m], scale=scale)

    def state(self) -> dict[str, Tensor]:
        return self._muon.state() | self._adamw.state()

    def load(self, state: Mapping[str, Tensor], *, steps: int) -> None:
        self._muon.load(state, steps=steps)
        self._adamw.load(state, steps=steps)
