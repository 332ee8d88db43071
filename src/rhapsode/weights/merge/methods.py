"""Ways to make one tensor of several that lie at the same place in models of one shape.

`Linear` and `Slerp` go between models; `Ties` and `Dare` add up what models have learnt beyond the base that they have
in common, and differ in what they leave out of it. All of them compute in float32, a tensor at a time.

Shapes: any; tensors that are combined have the same.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from rhapsode.core.errors import RhapsodeError

STRAIGHT = 1e-4
"""Below such an angle an arc is a straight line, and the formula for it divides by nothing."""


class Method(Protocol):
    """A way to merge, as a value."""

    @property
    def num_models(self) -> int: ...

    @property
    def needs_base(self) -> bool: ...

    def merge(self, name: str, tensors: Sequence[Tensor], base: Tensor | None) -> Tensor:
        """The tensor `name` of the merged model, of the models' in float32; none of them is kept as it was."""
        ...


@dataclass(frozen=True)
class Linear:
    """A weighted sum (model soups, Wortsman et al. 2022, arXiv:2203.05482).

    Attributes:
        shares: of each model; divided by their sum where `is_mean`.
    """

    shares: tuple[float, ...]
    is_mean: bool = True
    needs_base = False

    def __post_init__(self) -> None:
        _check_shares(self.shares)
        if self.is_mean and sum(self.shares) == 0:
            raise RhapsodeError("the models' shares add up to nothing", "choose others")

    @property
    def num_models(self) -> int:
        return len(self.shares)

    def merge(self, name: str, tensors: Sequence[Tensor], base: Tensor | None) -> Tensor:  # noqa: ARG002 - one law for all
        total = sum(self.shares) if self.is_mean else 1.0
        return _sum([share / total for share in self.shares], tensors)


@dataclass(frozen=True)
class Slerp:
    """Along the arc between two models, each tensor seen as a direction (Shoemake 1985).

    Halfway between two directions a straight line would be shorter than both; the arc is not.

    Attributes:
        way: how far from the first model to the second, 0 to 1.
    """

    way: float
    num_models = 2
    needs_base = False

    def __post_init__(self) -> None:
        if not 0 <= self.way <= 1:
            raise RhapsodeError(f"slerp goes {self.way} of the way between two models", "choose between 0 and 1")

    def merge(self, name: str, tensors: Sequence[Tensor], base: Tensor | None) -> Tensor:  # noqa: ARG002 - one law for all
        one, other = tensors
        angle = _angle(one, other)
        if math.sin(angle) < STRAIGHT:
            return _sum((1 - self.way, self.way), tensors)
        shares = [math.sin(part * angle) / math.sin(angle) for part in (1 - self.way, self.way)]
        return _sum(shares, tensors)


@dataclass(frozen=True)
class Ties:
    """Trim, elect a sign, and take the mean of those that agree (Yadav et al. 2023, arXiv:2306.01708).

    What counts is, tensor by tensor, the largest part of each model's difference to the base; for every number the sign
    with the larger sum wins, and only differences of that sign are averaged.

    Attributes:
        shares: of each model.
        density: how much of each difference counts.
        scale: what the merged difference is multiplied with (lambda in the paper).
    """

    shares: tuple[float, ...]
    density: float = 0.2
    scale: float = 1.0
    needs_base = True

    def __post_init__(self) -> None:
        _check_shares(self.shares)
        if min(self.shares) <= 0:
            raise RhapsodeError(f"the models' shares are {list(self.shares)}", "a mean needs numbers above 0")
        _check_density(self.density)

    @property
    def num_models(self) -> int:
        return len(self.shares)

    def merge(self, name: str, tensors: Sequence[Tensor], base: Tensor | None) -> Tensor:  # noqa: ARG002 - one law for all
        assert base is not None
        learnt = [trim(tensor - base, self.density) for tensor in tensors]
        elected = _sum(self.shares, learnt).sign()
        total, weight = torch.zeros_like(base), torch.zeros_like(base)
        for share, difference in zip(self.shares, learnt, strict=True):
            agrees = (difference.sign() == elected) & (difference != 0)
            total.add_(difference * agrees, alpha=share)
            weight.add_(agrees, alpha=share)
        return base + self.scale * total.div_(weight.masked_fill_(weight == 0, 1))


@dataclass(frozen=True)
class Dare:
    """Drop differences at random and rescale those that stay (Yu et al. 2023, arXiv:2311.03099), then add them up.

    Attributes:
        shares: of each model.
        density: how much of each difference stays, 1 - p in the paper.
        seed: of what is dropped; a tensor's draw depends on it, on the tensor's name and on the model's place alone.
    """

    shares: tuple[float, ...]
    density: float = 0.5
    seed: int = 0
    needs_base = True

    def __post_init__(self) -> None:
        _check_shares(self.shares)
        _check_density(self.density)

    @property
    def num_models(self) -> int:
        return len(self.shares)

    def merge(self, name: str, tensors: Sequence[Tensor], base: Tensor | None) -> Tensor:
        assert base is not None
        out = base.clone()
        for place, (share, tensor) in enumerate(zip(self.shares, tensors, strict=True)):
            kept = torch.rand(base.shape, generator=self._random(name, place)) < self.density
            out.add_((tensor - base) * kept, alpha=share / self.density)
        return out

    def _random(self, name: str, place: int) -> torch.Generator:
        found = hashlib.sha256(f"{self.seed}/{place}/{name}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(found[:8], "big") >> 1)


def trim(difference: Tensor, density: float) -> Tensor:
    """The largest `density` of the numbers, the others nothing; numbers as large as the last that stays stay too."""
    count = max(1, round(density * difference.numel()))
    if count >= difference.numel():
        return difference
    size = difference.abs()
    sizes = size.flatten().numpy(force=True).copy()
    place = len(sizes) - count
    sizes.partition(place)  # in place, where torch would keep an index of eight bytes for every number
    return difference.masked_fill_(size < float(sizes[place]), 0)


def _sum(shares: Sequence[float], tensors: Sequence[Tensor]) -> Tensor:
    total = torch.zeros_like(tensors[0])
    for share, tensor in zip(shares, tensors, strict=True):
        total.add_(tensor, alpha=share)
    return total


def _angle(one: Tensor, other: Tensor) -> float:
    """Between two tensors as directions; nothing where one of them has none."""
    lengths = float(
        torch.linalg.vector_norm(one, dtype=torch.float64) * torch.linalg.vector_norm(other, dtype=torch.float64)
    )
    inner = float((one * other).sum(dtype=torch.float64))
    return math.acos(max(-1.0, min(1.0, inner / lengths))) if lengths else 0.0


def _check_shares(shares: Sequence[float]) -> None:
    if not shares or not all(math.isfinite(share) for share in shares):
        raise RhapsodeError(f"the models' shares are {list(shares)}", "give every model a number")


def _check_density(density: float) -> None:
    if not 0 < density <= 1:
        raise RhapsodeError(f"a density of {density} is not a part of a whole", "choose above 0, up to 1")
