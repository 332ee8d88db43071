"""What several ranks train, made so that every rank begins with the same weights: those of rank 0."""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.distributed as dist

from rhapsode.kernels.cross_entropy import IGNORE
from rhapsode.model.decoder import Decoder
from rhapsode.model.spec import ModelSpec
from rhapsode.train.objective import Batch, Objective
from rhapsode.train.ranks.ranks import Ranks
from rhapsode.train.ranks.sharded import Gathered, ShardedMasters, shard


class Sharded(NamedTuple):
    """A model in shares, its masters, and the objective that can look at it."""

    model: Decoder
    masters: ShardedMasters
    objective: Objective


def sharded(
    spec: ModelSpec,
    *,
    first: Callable[[], Decoder],
    dtype: torch.dtype,
    objective: Objective,
    ranks: Ranks,
    prepare: Callable[[Decoder], None] | None,
) -> Sharded:
    """Make a model of which every rank holds its rows.

    Args:
        first: the whole model of step 0 in float32; only rank 0 has it, and sends it parameter by parameter.
        prepare: changes blocks before they are wrapped.
    """
    model = Decoder(spec)  # memory that nobody has touched is none, and only this rank's rows are going to be
    if prepare is not None:
        prepare(model)
    masters = ShardedMasters(shard(model, dtype=dtype, device=ranks.device), ranks=ranks)
    whole = dict(first().named_parameters()) if ranks.rank == 0 else {}
    for name, rows in masters.rows.items():
        value = whole[name].detach().to(ranks.device) if whole else torch.empty(rows.shape, device=ranks.device)
        dist.broadcast(value, src=0)
        masters.take(name, value)
    return Sharded(model, masters, Gathered(objective))


def padded(batches: list[Batch], *, count: int, context: int, device: torch.device) -> list[Batch]:
    """`count` micro-batches, of which all ranks must take part in each: what is lacking are rows without a target."""
    nothing = torch.zeros(1, context, dtype=torch.int64, device=device)
    empty = Batch(nothing, torch.full_like(nothing, IGNORE), nothing, nothing)
    return batches + [empty] * (count - len(batches))
