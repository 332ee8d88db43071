"""Muon where every rank holds pieces of each matrix.

Momentum moves pieces wherever they lie; making a matrix orthogonal needs all of it. So the matrices are dealt out: each
of the ranks that hold a model between them gets whole ones, as many as the others, makes those orthogonal and sends the
pieces back to where they belong. What is sent is the size of the pieces that a rank holds, and no matrix is computed
twice among these ranks.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from rhapsode.model.pieces import Place
from rhapsode.train.masters import height_of
from rhapsode.train.optimizer import Muon, Weight, orthogonalise, scale_of
from rhapsode.train.ranks.pieces import Pieces


class Kind(NamedTuple):
    """Weights that are alike, by their numbers.

    Attributes:
        height: of each of the matrices stacked in them.
        held: what each of the ranks that hold the model has of one.
        own: what this rank has of one.
    """

    numbers: list[int]
    height: int
    held: list[Place]
    own: Place


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
        self._pieces, self._kinds = pieces, _kinds(self._weights, pieces)

    def move(self, nesterov: Sequence[Tensor], *, rate: float) -> None:
        for kind in self._kinds:
            alpha = rate * scale_of(kind.height, kind.own.shape[1])
            for i, direction in self._directions(nesterov, kind):
                self._weights[i].value.sub_(direction, alpha=alpha)

    def _directions(self, nesterov: Sequence[Tensor], kind: Kind) -> Iterator[tuple[int, Tensor]]:
        """This rank's pieces of the directions of weights of a kind, each with the number of its weight."""
        held, group, sample = kind.held, self._pieces.group, nesterov[kind.numbers[0]]
        dealt = [kind.numbers[owner :: len(held)] for owner in range(len(held))]
        own = dealt[self._pieces.grid.holders.index(self._pieces.grid.rank)]
        shapes = [(len(own), place.num_rows, len(place.columns)) for place in held]

        given = [torch.stack([nesterov[i] for i in owned]) if owned else sample.new_empty(0) for owned in dealt]
        whole = sample.new_empty(len(own), *held[0].shape)
        for place, part in zip(held, _exchange(given, shapes, group=group), strict=True):
            for some, there in place.views(part, whole):
                there.copy_(some)
        if len(own):
            matrices = whole.view(-1, kind.height, whole.shape[-1])
            whole = orthogonalise(matrices, dtype=self._dtype).reshape(whole.shape)
        given = [whole.new_empty(shape) for shape in shapes]
        for place, part in zip(held, given, strict=True):
            for some, there in place.views(part, whole):
                some.copy_(there)
        found = _exchange(given, [(len(owned), *sample.shape) for owned in dealt], group=group)
        for owned, moves in zip(dealt, found, strict=True):
            yield from zip(owned, moves.unbind(0), strict=True)


def _kinds(weights: Sequence[Weight], pieces: Pieces) -> list[Kind]:
    """Weights of one shape, at one place of their layers."""
    groups: dict[tuple[str, tuple[int, ...]], list[int]] = {}
    for i, weight in enumerate(weights):
        _, _, inner = weight.name.split(".", 2)
        groups.setdefault((inner, pieces.places[weight.name].shape), []).append(i)
    return [_kind(found, weights[found[0]].name, pieces) for found in groups.values()]


def _kind(numbers: list[int], name: str, pieces: Pieces) -> Kind:
    held = [pieces.of(name, rank=rank) for rank in pieces.grid.holders]
    own = pieces.places[name]
    height = height_of(name, own.shape, pieces.spec)
    assert height is not None
    return Kind(numbers, height, held, own)


def _exchange(
    give: Sequence[Tensor], shapes: Sequence[tuple[int, ...]], *, group: dist.ProcessGroup | None
) -> list[Tensor]:
    """Give the i-th tensor to the i-th rank of a group; get from it a tensor of the i-th shape."""
    flat, sizes = torch.cat([tensor.reshape(-1) for tensor in give]), [tensor.numel() for tensor in give]
    lengths = [torch.Size(shape).numel() for shape in shapes]
    found = flat.new_empty(sum(lengths))
    dist.all_to_all_single(found, flat, lengths, sizes, group=group)
    return [part.view(shape) for part, shape in zip(found.split(lengths), shapes, strict=True)]
