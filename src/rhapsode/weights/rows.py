"""Checkpoints of which every process writes and reads its own rows.

A share is rows of one of the decoder's parameters. On disk these are rows of the tensors that the parameter is stacked
from, or columns where such a tensor lies transposed: so the files are those that one process would have written, byte
for byte, and any number of processes can read them again.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from rhapsode.model.parameters import disk_shapes, parts
from rhapsode.model.spec import ModelSpec
from rhapsode.weights.header import Slot
from rhapsode.weights.layout import match
from rhapsode.weights.safetensors import TensorFile, TensorJoiner, plan_file
from rhapsode.weights.shard_writer import plan_files, shard_joiner
from rhapsode.weights.shards import Weights

OPTIMIZER = "training/optimizer.safetensors"


class Share(NamedTuple):
    """What a process holds of a tensor of `shape`: its rows from `first` on, as many as `value` has."""

    value: Tensor
    first: int
    shape: tuple[int, ...]

    @property
    def row(self) -> int:
        """`first`, counted in rows of the last dimension."""
        return self.first * torch.Size(self.shape[1:-1]).numel()


class Corner(NamedTuple):
    """A part of a tensor on disk, from `row` and `column` on; `value` lies in a share's memory."""

    name: str
    value: Tensor
    row: int
    column: int


def corners(name: str, share: Share, spec: ModelSpec) -> Iterator[Corner]:
    """The parts of tensors on disk that a share of the parameter `name` covers."""
    rows = share.value.view(-1, share.shape[-1]) if len(share.shape) > 1 else share.value
    at = 0
    for part in parts(name, spec):
        first, stop = max(share.row, at), min(share.row + len(rows), at + part.rows)
        if first < stop:
            value = rows[first - share.row : stop - share.row]
            row, column = (0, first - at) if part.is_transposed else (first - at, 0)
            yield Corner(part.name, value.T if part.is_transposed else value, row, column)
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
        plan_file(directory / OPTIMIZER, [Slot(name, s.value.dtype, s.shape) for name, s in self.optimizer.items()])

    def write(self, directory: Path) -> None:
        """Fill this process's part of them.

        Raises:
            OSError: what the system said, for example that the disk is full.
        """
        with shard_joiner(directory) as out:
            for name, share in self.weights:
                for corner in corners(name, share, self.spec):
                    out.write_corner(corner.name, corner.value, row=corner.row, column=corner.column)
        with TensorJoiner(directory / OPTIMIZER) as state:
            for name, share in self.optimizer.items():
                state.write_corner(name, share.value, row=share.row)

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
                assert state.tensors[name].shape == share.shape
                rows = share.value.view(-1, share.shape[-1]) if len(share.shape) > 1 else share.value
                state.read_corner(name, rows, row=share.row)
