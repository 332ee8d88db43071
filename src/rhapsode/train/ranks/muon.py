"""Muon where every rank holds rows of each matrix.

Momentum moves rows wherever they lie; making a matrix orthogonal needs all of it. So the matrices are dealt out: each
rank gets whole ones, as many as the others, makes those orthogonal and sends the rows back to where they belong. What
is sent is the size of the rows that a rank holds, and no matrix is computed twice.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from rhapsode.train.optimizer import Muon, Weight, orthogonalise
from rhapsode.train.ranks.sharded import rows_of


class Kind(NamedTuple):
    """Weights that are alike: the heights of the matrices stacked in each, and their width."""

    parts: tuple[int, ...]
    columns: int


class ShardedMuon(Muon):
    """As `Muon`, over weights of which this rank holds the rows of `rows_of`."""

    def move(self, nesterov: Sequence[Tensor], *, rate: float) -> None:
        rank, size = dist.get_rank(), dist.get_world_size()
        for kind, places in _alike(self._weights).items():
            spans = [rows_of(sum(kind.parts), rank=r, size=size) for r in range(size)]
            dealt = [places[owner::size] for owner in range(size)]
            rows = [torch.stack([nesterov[i] for i in owned]) if owned else None for owned in dealt]
            shapes = [(len(dealt[rank]), len(span), kind.columns) for span in spans]
            whole = torch.cat(_exchange(rows, shapes, like=nesterov[places[0]]), 1)
            if len(whole):
                whole = torch.cat([orthogonalise(m, dtype=self._dtype) for m in whole.split(kind.parts, 1)], 1)
            found = _exchange(
                [whole[:, span.start : span.stop] for span in spans],
                [(len(owned), len(spans[rank]), kind.columns) for owned in dealt],
                like=whole,
            )
            for owned, moves in zip(dealt, found, strict=True):
                for i, move in zip(owned, moves.unbind(0), strict=True):
                    self._subtract(move, i, kind, spans[rank], rate=rate)

    def _subtract(self, move: Tensor, index: int, kind: Kind, span: range, *, rate: float) -> None:
        """From the rows of `span`, which may belong to several of the matrices that are stacked."""
        top = 0
        for height in kind.parts:
            first, stop = (min(max(edge, span.start), span.stop) - span.start for edge in (top, top + height))
            alpha = rate * max(1.0, height / kind.columns) ** 0.5
            self._weights[index].value[first:stop].sub_(move[first:stop], alpha=alpha)
            top += height


def _alike(weights: Sequence[Weight]) -> dict[Kind, list[int]]:
    groups: dict[Kind, list[int]] = {}
    for i, weight in enumerate(weights):
        assert weight.parts is not None
        groups.setdefault(Kind(weight.parts, weight.value.shape[1]), []).append(i)
    return groups


def _exchange(give: Sequence[Tensor | None], shapes: Sequence[tuple[int, ...]], *, like: Tensor) -> list[Tensor]:
    """Give the i-th tensor to rank i; get from rank i a tensor of the i-th shape."""
    flat = torch.cat([like.new_empty(0) if tensor is None else tensor.reshape(-1) for tensor in give])
    sizes = [0 if tensor is None else tensor.numel() for tensor in give]
    lengths = [torch.Size(shape).numel() for shape in shapes]
    found = like.new_empty(sum(lengths))
    dist.all_to_all_single(found, flat, lengths, sizes)
    return [part.view(shape) for part, shape in zip(found.split(lengths), shapes, strict=True)]
