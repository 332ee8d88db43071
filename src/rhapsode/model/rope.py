"""Rotary positions as values: which dimensions turn, how fast, and how that was stretched for longer contexts.

Free of torch. `kernels/rope.py` turns vectors by what `Rope.frequencies` gives. The stretches are those of Hugging
Face's `rope_scaling`: linear (Chen et al. 2023), YaRN (Peng et al. 2023), LongRoPE (Ding et al. 2024), Llama 3.1's.
"""

import math
from dataclasses import dataclass
from typing import Protocol


class Stretch(Protocol):
    """How frequencies, in radians a token, change so that a model reads further than it was first trained to."""

    @property
    def scale(self) -> float:
        """What cosine and sine are multiplied with."""
        ...

    def apply(self, frequencies: list[float], *, theta: float) -> list[float]: ...


@dataclass(frozen=True)
class Linear:
    """All positions are divided by `factor`."""

    factor: float
    scale: float = 1.0

    def apply(self, frequencies: list[float], *, theta: float) -> list[float]:  # noqa: ARG002 - Stretch's signature
        return [f / self.factor for f in frequencies]


@dataclass(frozen=True)
class Llama3:
    """Slow dimensions are divided by `factor`, fast ones stay, those between are mixed."""

    factor: float
    low: float
    high: float
    context: int
    scale: float = 1.0

    def apply(self, frequencies: list[float], *, theta: float) -> list[float]:  # noqa: ARG002 - Stretch's signature
        return [self._one(f) for f in frequencies]

    def _one(self, frequency: float) -> float:
        turns = self.context * frequency / (2 * math.pi)
        kept = min(1.0, max(0.0, (turns - self.low) / (self.high - self.low)))
        return (1 - kept) * frequency / self.factor + kept * frequency


@dataclass(frozen=True)
class Yarn:
    """As `Llama3`, mixed by the number of the dimension; cosine and sine grow to keep the scores' spread."""

    factor: float
    context: int
    fast: float
    slow: float
    is_rounded: bool
    scale: float

    def apply(self, frequencies: list[float], *, theta: float) -> list[float]:
        low, high = (self._dimension(turns, 2 * len(frequencies), theta) for turns in (self.fast, self.slow))
        if self.is_rounded:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, 2 * len(frequencies) - 1)
        high += 0.001 if low == high else 0.0
        mixed = [min(1.0, max(0.0, (index - low) / (high - low))) for index in range(len(frequencies))]
        return [f / self.factor * m + f * (1 - m) for f, m in zip(frequencies, mixed, strict=True)]

    def _dimension(self, turns: float, dims: int, theta: float) -> float:
        """The dimension that turns so often within the first context."""
        return dims * math.log(self.context / (turns * 2 * math.pi)) / (2 * math.log(theta))


@dataclass(frozen=True)
class Factors:
    """Every dimension is divided by a factor of its own (LongRoPE), in texts of up to `context` tokens."""

    factors: tuple[float, ...]
    scale: float
    context: int

    def apply(self, frequencies: list[float], *, theta: float) -> list[float]:  # noqa: ARG002 - Stretch's signature
        return [f / factor for f, factor in zip(frequencies, self.factors, strict=True)]


@dataclass(frozen=True)
class Rope:
    """The first `dims` dimensions of every head turn, dimension pair i by theta^(-2i/dims) radians a token."""

    theta: float
    dims: int
    stretch: Stretch | None = None

    def frequencies(self) -> list[float]:
        """dims / 2 numbers, in radians a token."""
        plain = [self.theta ** (-2 * index / self.dims) for index in range(self.dims // 2)]
        return plain if self.stretch is None else self.stretch.apply(plain, theta=self.theta)

    @property
    def scale(self) -> float:
        return 1.0 if self.stretch is None else self.stretch.scale
