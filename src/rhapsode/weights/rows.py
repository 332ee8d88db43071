"""Checkpoints of which every process writes and reads its own pieces.

A share is a piece of one of the decoder's parameters. On disk these are parts of the tensors that the parameter is
stacked from, the other way round where such a tensor lies transposed: so the files are those that one process would
have written, byte for byte, and any number of processes can read them again.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from rhapsode.model.parameters import disk_shapes, parts
from rhapsode.model.pieces import Place, as_rows
from rhapsode.model.spec import ModelSpec
from rhapsode.weights.header import Slot
from rhapsode.weights.layout import match
from rhapsode.weights.safetensors import TensorFile, TensorJoiner, plan_file
from rhapsode.weights.shard_writer import plan_files, shard_joiner
from rhapsode.weights.shards import Weights

OPTIMIZER = "training/optimizer.safetensors"


class Share(NamedTuple):
    """What a process holds of a tensor, and where it lies in the whole one."""

    value: Tensor
    place: Place

    @property
    def column(self) -> int:
        """The first one of the whole that it has."""
        return self.place.columns.start

    def runs(self) -> Iterator[tuple[Tensor, int]]:
        """Rows of the value that are neighbours in the whole, and the first one's number there."""
        at = 0
        for run in self.place.runs:
            yield as_rows(self.value)[at : at + len(run)], run.start
            at += len(run)


class Corner(NamedTuple):
    """A part of a tensor on disk, from `row` and `column` on; `value` lies in a share's memory."""

    name: str
    value: Tensor
    row: int
    column: int

    def transposed(self) -> "Corner":
        return Corner(self.name, self.value.T, self.column, self.row)


def corners(name: str, share: Share, spec: ModelSpec) -> Iterator[Corner]:
    """The parts of tensors on disk that a share of the parameter `name` covers."""
    stacked = parts(name, spec)
    for rows, row in share.runs():
        at = 0
        for part in stacked:
            first, stop = max(row, at), min(row + len(rows), at + part.rows)
            if first < stop:
                corner = Corner(part.name, rows[first - row : stop - row], first - at, share.column)
                yield corner.transposed() if part.is_transposed else corner
            at += part.rows


class Shares(NamedTuple):
    """What a process holds of a checkpoint: of the decoder's parameters, and of the optimizer's tensors."""

    spec: ModelSpec
    weights: Sequence[tuple[str, Share]]
    optimizer: Mapping[str, Share]

    @property
    def dtype(self) -> torch.dtype:
        """Of all weights."""
        return self.weights[0][1].value.dtype

    def plan(self, directory: Path) -> None:
        """Make the files of the whole, for all processes to fill.

        Raises:
            OSError: what the system said, for example that the disk is full.
        """
        plan_files(directory, [Slot(name, self.dtype, shape) for name, shape in disk_shapes(self.spec).items()])
        (directory / OPTIMIZER).parent.mkdir()
        slots = [Slot(name, share.value.dtype, share.place.shape) for name, share in self.optimizer.items()]
        plan_file(directory / OPTIMIZER, slots)

    def write(self, directory: Path) -> None:
        """Fill this process's part of them; of what several hold, the first one's.

        Raises:
            OSError: what the system said, for example that the disk is full.
        """
        with shard_joiner(directory) as out:
            for name, share in self.weights:
                for corner in corners(name, share, self.spec) if share.place.is_first else ():
                    out.write_corner(corner.name, corner.value, row=corner.row, column=corner.column)
        with TensorJoiner(directory / OPTIMIZER) as state:
            for name, share in self.optimizer.items():
                for rows, row in share.runs() if share.place.is_first else ():
                    state.write_corner(name, rows, row=row, column=share.column)

    @torch.no_grad()
    def read(self, directory: Path) -> None:
        """Fill the shares from a checkpoint, by however many it was written."""
        with Weights(directory) as found:
            layout = match(found.tensors, self.spec, where=directory)
            for name, share in self.weights:
                for corner in corners(name, share, self.spec):
                    found.read_corner(layout.names[corner.name], corner.value, row=corner.row, column=corner.column)
        with TensorFile(directory / OPTIMIZER) as state:
            for name, share in self.optimizer.items():
                assert state.tensors[name].shape == share.place.shape
                for rows, row in share.runs():
                    state.read_corner(name, rows, row=row, column=share.column)
