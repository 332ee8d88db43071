"""Safetensors written a few rows at a time, for tensors of which there is never the whole in memory."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from torch import Tensor

from rhapsode.weights.header import Entry, Slot, plan_header
from rhapsode.weights.safetensors import as_bytes
from rhapsode.weights.shard_writer import MAX_SHARD_BYTES, plan_shards, write_index


class BlockWriter:
    """Finds for each tensor its file and its place there."""

    def __init__(self, places: dict[str, tuple[int, Entry]]) -> None:
        self._places = places
        self._done = {name: entry.start for name, (_, entry) in places.items()}

    def append(self, name: str, block: Tensor) -> None:
        """The next rows of a tensor.

        Raises:
            OSError: what the system said, for example that the disk is full.
        """
        file, entry = self._places[name]
        assert block.dtype == entry.dtype
        data = as_bytes(block.contiguous())
        assert self._done[name] + len(data) <= entry.stop, f"{name} has more rows than were planned"
        while data:
            written = os.pwrite(file, data, self._done[name])
            self._done[name] += written
            data = data[written:]

    def check_complete(self) -> None:
        short = [name for name, (_, entry) in self._places.items() if self._done[name] != entry.stop]
        assert not short, f"{short[:5]} were planned and never came"


@contextlib.contextmanager
def block_writer(
    directory: Path, slots: Sequence[Slot], *, max_shard_bytes: int = MAX_SHARD_BYTES
) -> Iterator[BlockWriter]:
    """Write the tensors of a model, each from its first row to its last, in one file or in several with their index.

    Raises:
        OSError: what the system said.
    """
    shards = plan_shards(slots, max_shard_bytes=max_shard_bytes)
    with contextlib.ExitStack() as stack:
        places: dict[str, tuple[int, Entry]] = {}
        for name, members in shards.items():
            file = os.open(directory / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
            stack.callback(os.close, file)
            header, entries = plan_header(members)
            os.pwrite(file, header, 0)
            places |= {tensor: (file, entry) for tensor, entry in entries.items()}
        writer = BlockWriter(places)
        yield writer
        writer.check_complete()
    if len(shards) > 1:
        write_index(directory, {name: [(slot.name, slot.num_bytes) for slot in shards[name]] for name in shards})
