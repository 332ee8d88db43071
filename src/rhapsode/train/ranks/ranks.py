"""The processes that train together, as a value that is handed in. One process alone is the ordinary case.

Whatever the training loop decides must come out alike on every rank, or some would wait for ever for the others. So it
decides by what it got from here, and never by a clock or a disk of its own.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from rhapsode.core.events import Events

T = TypeVar("T")


class Ranks(Protocol):
    """All methods but `listen` and `doubt` are for all ranks in the same order; every rank gets the same from them."""

    @property
    def rank(self) -> int: ...

    @property
    def size(self) -> int: ...

    @property
    def neighbours(self) -> int:
        """Ranks on this machine, this one included: they share its memory."""
        ...

    @property
    def device(self) -> torch.device: ...

    def sum(self, values: Sequence[float]) -> list[float]:
        """Sums over the ranks, in float64 and in their order."""
        ...

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over the ranks: the same bytes on all of them."""
        ...

    def any(self, wish: bool) -> bool: ...

    def share(self, value: T) -> T:
        """The JSON value that rank 0 has."""
        ...

    def after_first(self, work: Callable[[], T]) -> T:
        """Do what writes files on rank 0; the others wait, however long it takes, and then find them written."""
        ...

    def listen(self, events: Events) -> None:
        """Where to tell of a rank that is lost."""
        ...

    def doubt(self) -> None:
        """A collective may have failed: learn whether a rank is lost, and if so do not come back."""
        ...


class Alone:
    """One process, which has everything already."""

    rank, size, neighbours = 0, 1, 1

    @property
    def device(self) -> torch.device:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def sum(self, values: Sequence[float]) -> list[float]:
        return list(values)

    def add(self, tensors: Sequence[Tensor]) -> None:
        pass

    def any(self, wish: bool) -> bool:
        return wish

    def share(self, value: T) -> T:
        return value

    def after_first(self, work: Callable[[], T]) -> T:
        return work()

    def listen(self, events: Events) -> None:
        pass

    def doubt(self) -> None:
        pass


ALONE = Alone()


class Grid(NamedTuple):
    """Ranks as a table. Those of a row are neighbours and divide every product; each row learns from data of its own.

    Attributes:
        data, tensor: how many rows there are, and how many ranks in each.
        rank: the one that asks.
        is_sharded: all rows hold the model once between them; otherwise each of them does.
    """

    data: int
    tensor: int
    rank: int
    is_sharded: bool

    @property
    def row(self) -> int:
        return self.rank // self.tensor

    @property
    def column(self) -> int:
        return self.rank % self.tensor

    @property
    def is_divided(self) -> bool:
        """Whether a rank has pieces of parameters, and not all of them."""
        return self.is_sharded or self.tensor > 1

    @property
    def holders(self) -> range:
        """The ranks that hold the model once between them, this one among them."""
        first, count = (0, self.data * self.tensor) if self.is_sharded else (self.row * self.tensor, self.tensor)
        return range(first, first + count)


def arrange(ranks: Ranks, *, tensor: int, is_sharded: bool) -> Grid:
    """The table of these ranks with so many in a row; where there is but one row, nothing is sharded."""
    assert ranks.size % tensor == 0, "the plan insists on it"
    data = ranks.size // tensor
    return Grid(data, tensor, ranks.rank, is_sharded=is_sharded and data > 1)


def share_of(rows: int, *, rank: int, size: int) -> slice:
    """The rows of a step that a rank computes: neighbours, as many for each as can be, every row exactly once."""
    return slice(rank * rows // size, (rank + 1) * rows // size)
