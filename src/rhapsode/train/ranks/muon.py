"""Muon where every rank holds pieces of each matrix.

Momentum moves pieces wherever they lie; making a matrix orthogonal needs all of it. So the matrices are dealt out: each
of the ranks that hold a model between them gets whole ones, as many as the others, makes those orthogonal and sends the
pieces back to where they belong. What is sent is the size of the pieces that a rank holds, and no matrix is computed
twice among these ranks.
"""

from collections.abc import Iterator, Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from rhapsode.model.parameters import stacked_rows
from rhapsode.model.pieces import stack
from rhapsode.train.optimizer import Muon, Weight, orthogonalise
from rhapsode.train.ranks.pieces import Pieces


class PiecesMuon(Muon):
    """As `Muon`, over weights of which this rank has what `pieces` says."""

    def __init__(
        self,
        weights: Sequence[Weight],
        *,
        learning_rate: float,
        weight_decay: float,
        dtype: torch.dtype,
        pieces: Pieces,
    ) -> None:
        super().__init__(weights, learning_rate=learning_rate, weight_decay=weight_decay, dtype=dtype)
        self._pieces = pieces

    def move(self, nesterov: Sequence[Tensor], *, rate: float) -> None:
        for alike in _alike(self._weights, self._pieces):
            for i, direction in self._directions(nesterov, alike):
                self._subtract(direction, self._weights[i], rate=rate)

    def _subtract(self, direction: Tensor, weight: Weight, *, rate: float) -> None:
        """At the scale of each of the matrices that have rows in this piece."""
        place, matrices, at = self._pieces.places[weight.name], stack(weight.name, self._pieces.spec), 0
        for run in place.runs:
            rows, height = slice(at, at + len(run)), next(len(rows) for rows in matrices if run.start in rows)
            weight.value[rows].sub_(direction[rows], alpha=rate * max(1.0, height / place.shape[1]) ** 0.5)
            at += len(run)

    def _directions(self, nesterov: Sequence[Tensor], alike: list[int]) -> Iterator[tuple[int, Tensor]]:
        """This rank's pieces of the directions of weights that are cut alike, each with the number of its weight."""
        pieces, name, sample = self._pieces, self._weights[alike[0]].name, nesterov[alike[0]]
        held = [pieces.of(name, rank=rank) for rank in pieces.grid.holders]
        dealt = [alike[owner :: len(held)] for owner in range(len(held))]
        own = dealt[pieces.grid.holders.index(pieces.grid.rank)]
        shapes = [(len(own), place.num_rows, len(place.columns)) for place in held]

        given = [torch.stack([nesterov[i] for i in owned]) if owned else sample.new_empty(0) for owned in dealt]
        whole = sample.new_empty(len(own), *held[0].shape)
        for place, part in zip(held, _exchange(given, shapes, group=pieces.group), strict=True):
            for some, there in place.views(part, whole):
                there.copy_(some)
        if len(own):
            parts = whole.split(stacked_rows(name, pieces.spec), 1)
            whole = torch.cat([orthogonalise(matrices, dtype=self._dtype) for matrices in parts], 1)
        given = [whole.new_empty(shape) for shape in shapes]
        for place, part in zip(held, given, strict=True):
            for some, there in place.views(part, whole):
                some.copy_(there)
        found = _exchange(given, [(len(owned), *sample.shape) for owned in dealt], group=pieces.group)
        for owned, moves in zip(dealt, found, strict=True):
            yield from zip(owned, moves.unbind(0), strict=True)


def _alike(weights: Sequence[Weight], pieces: Pieces) -> list[list[int]]:
    """The numbers of weights that are cut alike on every rank: of one shape, at one place of their layers."""
    groups: dict[tuple[str, tuple[int, ...]], list[int]] = {}
    for i, weight in enumerate(weights):
        _, _, inner = weight.name.split(".", 2)
        groups.setdefault((inner, pieces.places[weight.name].shape), []).append(i)
    return list(groups.values())


def _exchange(
    give: Sequence[Tensor], shapes: Sequence[tuple[int, ...]], *, group: dist.ProcessGroup | None
) -> list[Tensor]:
    """Give the i-th tensor to the i-th rank of a group; get from it a tensor of the i-th shape."""
    flat, sizes = torch.cat([tensor.reshape(-1) for tensor in give]), [tensor.numel() for tensor in give]
    lengths = [torch.Size(shape).numel() for shape in shapes]
    found = flat.new_empty(sum(lengths))
    dist.all_to_all_single(found, flat, lengths, sizes, group=group)
    return [part.view(shape) for part, shape in zip(found.split(lengths), shapes, strict=True)]
