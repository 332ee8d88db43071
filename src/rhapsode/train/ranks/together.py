"""Ranks that torch.distributed connects: gloo between processors, NCCL between GPUs."""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import PrefixStore

from rhapsode.core.events import Events
from rhapsode.train.ranks.watch import Store, Watch

T = TypeVar("T")

BUCKET_BYTES = 64 << 20
"""What is sent at once: large enough that its latency does not count, small beside the model."""
POLL_SECONDS = 0.2


class Together:
    """As `Ranks`, over the default process group. `store` is for few words, from any thread but one at a time."""

    def __init__(self, *, device: torch.device, neighbours: int, store: Store, watch: Watch) -> None:
        self.rank, self.size, self.device = dist.get_rank(), dist.get_world_size(), device
        self.neighbours = neighbours
        self.store, self._watch, self._turns = store, watch, 0

    def sum(self, values: Sequence[float]) -> list[float]:
        mine = torch.tensor(values, dtype=torch.float64, device=self.device)
        found = [torch.empty_like(mine) for _ in range(self.size)]
        dist.all_gather(found, mine)
        return [sum(column) for column in zip(*(row.tolist() for row in found), strict=True)]

    def add(self, tensors: Sequence[Tensor]) -> None:
        add(tensors)

    def any(self, wish: bool) -> bool:
        return self.sum([float(wish)])[0] > 0

    def share(self, value: T) -> T:
        self._turns += 1
        key = f"turn/{self._turns}"
        if self.rank == 0:
            self.store.set(key, json.dumps(value))
        shared: T = json.loads(wait_for(self.store, key))
        return shared

    def after_first(self, work: Callable[[], T]) -> T:
        self._turns += 1
        key = f"turn/{self._turns}"
        if self.rank > 0:
            wait_for(self.store, key)
            return work()
        result = work()
        self.store.set(key, "done")
        return result

    def branch(self) -> Store:
        """A part of the store for another thread, with keys of its own; all ranks ask for theirs in the same order."""
        self._turns += 1
        return cast(Store, PrefixStore(f"branch/{self._turns}", cast(Any, self.store.clone())))

    def listen(self, events: Events) -> None:
        self._watch.listen(events)

    def doubt(self) -> None:
        self._watch.doubt()


def add(tensors: Sequence[Tensor], *, group: dist.ProcessGroup | None = None) -> None:
    """Replace each tensor by its sum over a group, by default of all ranks: the same bytes on all of them."""
    for bucket in _buckets(tensors):
        flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
        dist.all_reduce(flat, group=group)
        for tensor, total in zip(bucket, flat.split([t.numel() for t in bucket]), strict=True):
            tensor.copy_(total.view_as(tensor))


def wait_for(store: Store, key: str) -> str:
    """What somebody will write there: hours later perhaps, while the watch sees that they live."""
    while not store.check([key]):
        time.sleep(POLL_SECONDS)
    return store.get(key).decode()


def _buckets(tensors: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    for tensor in tensors:
        if bucket and sum(t.nbytes for t in bucket) + tensor.nbytes > BUCKET_BYTES:
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket
