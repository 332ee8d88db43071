"""Which piece of every parameter each rank holds, and what is to be added up before a gradient is whole."""

import math
import re
from collections.abc import Mapping

import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from rhapsode.kernels.squares import squares
from rhapsode.model.narrow import narrow
from rhapsode.model.parameters import shapes
from rhapsode.model.pieces import Place, piece
from rhapsode.model.spec import ModelSpec
from rhapsode.train.ranks.ranks import Grid, Ranks
from rhapsode.train.ranks.together import add

ON_THE_STREAM = re.compile(r"(layers\.\d+\.)?\w*norm\.\w+")
"""Norms of the residual stream: every rank of a row sees all of it, and has their whole gradient."""


class Pieces:
    """A row of ranks holds a model between them: each a narrower decoder, or where the model is sharded rows of it.

    Attributes:
        narrow: the decoder of which this rank has all, or rows.
        places: by name, where what it has lies in the whole parameter.
        data, tensor: this rank's column of the table, which holds the same narrower decoder, and its row if it is long.
        group: of those who hold the model once between them; None is all ranks.
    """

    def __init__(self, spec: ModelSpec, *, ranks: Ranks, grid: Grid) -> None:
        self.spec, self.narrow, self.grid = spec, narrow(spec, grid.tensor), grid
        self._ranks = ranks
        mesh = _mesh(grid, kind=ranks.device.type)
        self.data, self.tensor = mesh["data"], mesh["tensor"].get_group() if grid.tensor > 1 else None
        self.places = {name: self.of(name, rank=grid.rank) for name in shapes(spec)}
        self.group = None if grid.is_sharded else self.tensor

    def of(self, name: str, *, rank: int) -> Place:
        """What a rank holds of a parameter."""
        row, column = divmod(rank, self.grid.tensor)
        place = piece(name, self.spec, index=column, count=self.grid.tensor)
        if not self.grid.is_sharded:
            return place._replace(is_first=place.is_first and row == 0)
        height, *inner = shapes(self.narrow)[name]
        rows, each = rows_of(height, rank=row, size=self.grid.data), math.prod(inner[:-1])
        return place.within(range(rows.start * each, rows.stop * each))

    def complete(self, grads: Mapping[str, Tensor]) -> None:
        """Add up, over this row, what each of its ranks has of the gradients of undivided parameters.

        Those come from the heads, experts or positions that are its own.
        """
        own, whole = shapes(self.narrow), shapes(self.spec)
        if self.tensor is not None:
            parts = (name for name in grads if own[name] == whole[name] and not ON_THE_STREAM.fullmatch(name))
            add([grads[name] for name in parts], group=self.tensor)

    def norm(self, grads: Mapping[str, Tensor]) -> float:
        """That of the whole gradient, in which every number counts once."""
        first = [grad for name, grad in grads.items() if self.places[name].is_first]
        return math.sqrt(self._ranks.sum([squares(first)])[0])


def rows_of(height: int, *, rank: int, size: int) -> range:
    """The rows of a parameter that a rank holds: as many for each, the last ones fewer or none, as FSDP2 has it."""
    chunk = -(-height // size)
    return range(min(height, rank * chunk), min(height, (rank + 1) * chunk))


def _mesh(grid: Grid, *, kind: str) -> DeviceMesh:
    assert dist.get_world_size() == grid.data * grid.tensor
    if grid.tensor == 1:  # all ranks, who have a group already
        return init_device_mesh(kind, (grid.data,), mesh_dim_names=("data",))
    return init_device_mesh(kind, (grid.data, grid.tensor), mesh_dim_names=("data", "tensor"))
