"""A projection whose matrix is frozen, and what is learnt beside it.

The decoder stacks the matrices of several modules on disk (query, key, value; gate, up). Each of them that is a target
has its own pair A, B, and under DoRA the lengths of its rows, for its own rows of the one product: so every number here
is a number of a PEFT file.

Shapes: I columns, O rows of the stacked matrix, r rank.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rhapsode.kernels.frozen import FrozenMatrix, StoredMatrix, Whole, store
from rhapsode.kernels.low_rank import Pair, low_rank, row_norms
from rhapsode.kernels.storage import Storage
from rhapsode.model.adapter_spec import AdapterKind
from rhapsode.model.linear import Linear


class Place(NamedTuple):
    """Rows of a stacked matrix that are a module of their own on disk."""

    first: int
    rows: int


class LowRank(nn.Module):
    """What is learnt of one module: A [r,I], B [rows,r], and under DoRA the magnitude [rows]."""

    def __init__(self, place: Place, columns: int, *, rank: int, kind: AdapterKind, like: Tensor) -> None:
        super().__init__()
        self.place = place
        self.A = nn.Parameter(like.new_empty(rank, columns))
        self.B = nn.Parameter(like.new_zeros(place.rows, rank))
        self.magnitude = nn.Parameter(like.new_empty(place.rows)) if kind == "dora" else None

    @property
    def pair(self) -> Pair:
        return Pair(self.place.first, self.A, self.B)

    @torch.no_grad()
    def begin(self, weight: Tensor, random: torch.Generator) -> None:
        """As PEFT begins: A is uniform within 1 / sqrt(I), B is nothing, the rows of W keep their length."""
        bound = 1 / math.sqrt(self.A.shape[1])
        self.A.copy_(torch.empty(self.A.shape).uniform_(-bound, bound, generator=random))
        if self.magnitude is not None:
            self.magnitude.copy_(torch.linalg.vector_norm(weight[self.pair.rows], dim=1))


class AdaptedLinear(nn.Module):
    """x W^T + b with a frozen W, kept whole or in few bits, and a learnt part beside the rows of some modules.

    Attributes:
        weight: W, where it is kept whole.
        stored: W, where it is not.
        adapters: by the last word of a module's name, what is learnt of it; none is a matrix that is merely frozen.
        is_on: whether what is learnt takes part.
    """

    is_on = True

    weight: nn.Parameter | None
    bias: nn.Parameter | None

    def __init__(self, base: Linear, *, scale: float = 1.0, storage: Storage | None = None) -> None:
        super().__init__()
        self.scale = scale
        base.requires_grad_(requires_grad=False)
        own = dict(base.named_parameters())
        self.register_parameter("weight", own["weight"] if storage is None else None)
        self.register_parameter("bias", own.get("bias"))
        self.stored: StoredMatrix | None = None if storage is None else store(base.weight, storage)
        self.adapters = nn.ModuleDict()

    @property
    def parts(self) -> list[LowRank]:
        """Everything that is learnt here, in the order of the rows."""
        found = [part for part in self.adapters.values() if isinstance(part, LowRank)]
        return sorted(found, key=lambda part: part.place.first)

    @property
    def matrix(self) -> FrozenMatrix:
        if self.stored is not None:
            return self.stored
        assert self.weight is not None
        return Whole(self.weight)

    def add(
        self, name: str, place: Place, *, rank: int, kind: AdapterKind, dtype: torch.dtype, random: torch.Generator
    ) -> None:
        """Begin to learn beside the rows of a module, in the type that computes."""
        weight = self.matrix.dense(dtype)
        part = LowRank(place, self.matrix.shape[1], rank=rank, kind=kind, like=weight)
        part.begin(weight, random)
        self.adapters[name] = part

    def forward(self, x: Tensor) -> Tensor:
        parts = self.parts if self.is_on else []
        pairs = [part.pair for part in parts]
        if all(part.magnitude is None for part in parts):
            return low_rank(x, self.matrix, self.bias, pairs, self.scale)
        out = low_rank(x, self.matrix, None, pairs, self.scale) * self._stretch(x.dtype)
        return out if self.bias is None else out + self.bias

    @torch.no_grad()
    def merged(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The matrix [O,I] that computes the same alone."""
        out = self.matrix.dense(dtype).clone()
        for part in self.parts:
            rows = out[part.pair.rows]
            rows.addmm_(part.B.to(dtype), part.A.to(dtype), alpha=self.scale)
            if part.magnitude is not None:
                rows.mul_((part.magnitude.to(dtype) / _lengths(torch.linalg.vector_norm(rows, dim=1)))[:, None])
        return out

    def _stretch(self, dtype: torch.dtype) -> Tensor:
        """What DoRA multiplies the rows of the product with [O]: m / |W + s B A|; one where nothing is learnt.

        The length below is a constant to the gradient, as the paper proposes (section 4.3). It is rounded as the
        magnitude is, so that the two cancel exactly before anything is learnt.
        """
        weight = self.matrix.dense(dtype)
        stretch = weight.new_ones(len(weight))
        for part in self.parts:
            assert part.magnitude is not None
            rows = part.pair.rows
            length = _lengths(row_norms(weight[rows], part.A, part.B, self.scale)).to(dtype)
            stretch[rows] = part.magnitude / length
        return stretch


def _lengths(norms: Tensor) -> Tensor:
    """Of rows that a magnitude is divided by: a row of nothing stays nothing and is no number otherwise."""
    return norms.clamp_min(torch.finfo(norms.dtype).tiny)
