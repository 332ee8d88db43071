"""The tensors of a model on their way to disk: one file if they fit, otherwise several and their index."""

import contextlib
import errno
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from rhapsode.weights.header import Slot
from rhapsode.weights.json_file import write_object
from rhapsode.weights.safetensors import TensorJoiner, TensorWriter, plan_file
from rhapsode.weights.shards import INDEX, WEIGHTS, Weights

MAX_SHARD_BYTES = 5 * 10**9


@contextlib.contextmanager
def shard_writer(
    directory: Path, slots: Sequence[Slot], *, max_shard_bytes: int = MAX_SHARD_BYTES
) -> Iterator["ShardWriter"]:
    """Write the tensors of a model, one file if it is small enough, otherwise several and their index.

    Every slot must be written before the block ends, in any order.

    Raises:
        OSError: what the system said; that the disk cannot hold them all is said before the first is written.
    """
    _check_room(directory, slots)
    shards = plan_shards(slots, max_shard_bytes=max_shard_bytes)
    with contextlib.ExitStack() as stack:
        homes: dict[str, TensorWriter] = {}
        for name, members in shards.items():
            writer = stack.enter_context(TensorWriter(directory / name, members))
            homes |= {slot.name: writer for slot in members}
        yield ShardWriter(homes)
    if len(shards) > 1:
        write_index(directory, {name: [(slot.name, slot.num_bytes) for slot in shards[name]] for name in shards})


class ShardWriter:
    """Finds for each tensor the file it belongs to."""

    def __init__(self, homes: Mapping[str, TensorWriter]) -> None:
        self._homes = homes

    def write(self, name: str, value: Tensor) -> None:
        """As `TensorWriter.write`."""
        self._homes[name].write(name, value)

    def write_corner(self, name: str, value: Tensor, *, row: int, column: int = 0) -> None:
        """As `TensorWriter.write_corner`."""
        self._homes[name].write_corner(name, value, row=row, column=column)


def plan_files(directory: Path, slots: Sequence[Slot], *, max_shard_bytes: int = MAX_SHARD_BYTES) -> None:
    """Make the files of a model with a place for every tensor, for processes that will fill them.

    Raises:
        OSError: what the system said; that the disk cannot hold them all is said at once.
    """
    _check_room(directory, slots)
    shards = plan_shards(slots, max_shard_bytes=max_shard_bytes)
    for name, members in shards.items():
        plan_file(directory / name, members)
    if len(shards) > 1:
        write_index(directory, {name: [(slot.name, slot.num_bytes) for slot in shards[name]] for name in shards})


@contextlib.contextmanager
def shard_joiner(directory: Path) -> Iterator[ShardWriter]:
    """Write a part of the tensors of a model whose files another process has made."""
    with Weights(directory) as planned:
        files = {name: list(file.tensors) for name, file in planned.files.items()}
    with contextlib.ExitStack() as stack:
        homes: dict[str, TensorWriter] = {}
        for name, members in files.items():
            writer = stack.enter_context(TensorJoiner(directory / name))
            homes |= dict.fromkeys(members, writer)
        yield ShardWriter(homes)


def plan_shards(slots: Iterable[Slot], *, max_shard_bytes: int) -> dict[str, list[Slot]]:
    """Name of file -> its tensors: in order, each file as full as it may be, and never without a tensor."""
    shards: list[list[Slot]] = [[]]
    room = max_shard_bytes
    for slot in slots:
        if slot.num_bytes > room and shards[-1]:
            shards.append([])
            room = max_shard_bytes
        shards[-1].append(slot)
        room -= slot.num_bytes
    if len(shards) == 1:
        return {WEIGHTS: shards[0]}
    return {f"model-{i:05d}-of-{len(shards):05d}.safetensors": shard for i, shard in enumerate(shards, 1)}


def write_index(directory: Path, files: Mapping[str, Iterable[tuple[str, int]]]) -> None:
    """Say where every tensor lies: name of file -> its tensors and their sizes in bytes."""
    weight_map = {tensor: name for name, tensors in files.items() for tensor, _ in tensors}
    total = sum(size for tensors in files.values() for _, size in tensors)
    write_object(directory / INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})


def _check_room(directory: Path, slots: Iterable[Slot]) -> None:
    """A full disk is better found before an hour of work than after it."""
    disk = os.statvfs(directory)
    if sum(slot.num_bytes for slot in slots) > disk.f_bfree * disk.f_frsize:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(directory))
