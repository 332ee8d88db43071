"""What several ranks train in pieces, made so that they begin with the same weights: those of rank 0."""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.distributed as dist

from rhapsode.kernels.cross_entropy import IGNORE
from rhapsode.model.decoder import Decoder
from rhapsode.model.pieces import as_rows
from rhapsode.model.spec import ModelSpec
from rhapsode.train.masters import Masters
from rhapsode.train.objective import Batch, Objective
from rhapsode.train.ranks.narrow import NarrowMasters
from rhapsode.train.ranks.pieces import Pieces
from rhapsode.train.ranks.ranks import Grid, Ranks
from rhapsode.train.ranks.sharded import Gathered, ShardedMasters, shard
from rhapsode.train.ranks.tensor import OwnPositions, divide


class Divided(NamedTuple):
    """A model in pieces, its masters, the objective that can look at it, and where the pieces lie."""

    model: Decoder
    masters: Masters
    objective: Objective
    pieces: Pieces


def divided(
    spec: ModelSpec,
    *,
    first: Callable[[], Decoder],
    dtype: torch.dtype,
    objective: Objective,
    ranks: Ranks,
    grid: Grid,
    prepare: Callable[[Decoder], None] | None,
) -> Divided:
    """Make a model of which every rank holds its pieces.

    Args:
        first: the whole model of step 0 in float32; only rank 0 has it, and sends it parameter by parameter.
        grid: those of a row divide every product; what is then left of a parameter the rows share, or have all of it.
        prepare: changes blocks before they are wrapped.
    """
    pieces = Pieces(spec, ranks=ranks, grid=grid)
    model = Decoder(pieces.narrow)  # memory that nobody has touched is none, and only what stays here is going to be
    if pieces.tensor is not None:
        divide(model, group=pieces.tensor)
        objective = OwnPositions(objective, grid)
    if prepare is not None:
        prepare(model)
    masters: Masters
    if grid.is_sharded:
        masters = ShardedMasters(shard(model, dtype=dtype, mesh=pieces.data), pieces=pieces)
        objective = Gathered(objective)
    else:
        masters = NarrowMasters(model.to(ranks.device), pieces=pieces)
        model.to(dtype)
    _fill(masters, dict(first().named_parameters()) if ranks.rank == 0 else {})
    return Divided(model, masters, objective, pieces)


@torch.no_grad()
def _fill(masters: Masters, whole: dict[str, torch.nn.Parameter]) -> None:
    """Give every rank its pieces of the weights that rank 0 has."""
    for name, value, _ in masters.weights:
        place = masters.places[name]
        sent = whole[name].detach().to(value.device) if whole else value.new_empty(place.shape)
        dist.broadcast(sent, src=0)
        for mine, there in place.views(as_rows(value), as_rows(sent)):
            mine.copy_(there)
    masters.publish()


def padded(batches: list[Batch], *, count: int, context: int, device: torch.device) -> list[Batch]:
    """`count` micro-batches, of which all ranks must take part in each: what is lacking are rows without a target."""
    nothing = torch.zeros(1, context, dtype=torch.int64, device=device)
    empty = Batch(nothing, torch.full_like(nothing, IGNORE), nothing, nothing, nothing)
    return batches + [empty] * (count - len(batches))
