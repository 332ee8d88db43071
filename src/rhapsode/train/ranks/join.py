"""How a process finds the others: torchrun or a person sets RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT."""

import contextlib
import os
import socket
import time
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any, NamedTuple, cast

import torch

from rhapsode.core.errors import Interrupted, RhapsodeError
from rhapsode.train.ranks.ranks import Alone, Ranks
from rhapsode.train.ranks.watch import SILENCE, Store, Watch, page_of

START_SECONDS = 300.0
"""How long the first rank waits for the last one: machines of a cluster do not start at the same moment."""
COLLECTIVE_SECONDS = 600.0
"""A rank that is lost is noticed by the watch; this is for one that lives and does not come, which is a defect."""


class Place(NamedTuple):
    """What the environment says of this process. `attempt` counts torchrun's restarts."""

    rank: int
    size: int
    local_rank: int
    host: str
    port: int
    has_store: bool
    attempt: int

    @property
    def where(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def keeps_store(self) -> bool:
        return self.rank == 0 and not self.has_store


def place(environment: Mapping[str, str] = os.environ) -> Place | None:
    """None where this process is alone.

    Raises:
        RhapsodeError: a variable is missing, or no number.
    """
    if int(environment.get("WORLD_SIZE") or 1) == 1:
        return None
    try:
        return Place(
            rank=int(environment["RANK"]),
            size=int(environment["WORLD_SIZE"]),
            local_rank=int(environment.get("LOCAL_RANK") or 0),
            host=environment["MASTER_ADDR"],
            port=int(environment["MASTER_PORT"]),
            has_store=environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
            attempt=int(environment.get("TORCHELASTIC_RESTART_COUNT") or 0),
        )
    except KeyError as error:
        raise RhapsodeError(
            f"WORLD_SIZE is {environment['WORLD_SIZE']}, but {error.args[0]} is not set",
            "start the ranks with torchrun, or unset WORLD_SIZE",
        ) from None


@contextlib.contextmanager
def joined(*, silence: float = SILENCE, start: float = START_SECONDS) -> Iterator[Ranks]:
    """This process among its ranks, until the block ends; alone where the environment names no others.

    Args:
        silence: seconds after which a rank that does not sign is lost.
        start: seconds that ranks wait for each other in the beginning.

    Raises:
        RhapsodeError: the ranks do not find each other; the message names those who are missing.
    """
    if (here := place()) is None:
        yield Alone()
        return
    import torch.distributed as dist
    from torch._C._distributed_c10d import PrefixStore

    from rhapsode.train.ranks.together import Together

    device = _device(here)
    store = _connect(here, start=start)
    hosts = _roll_call(store, here, start=start)
    watch = Watch(
        store.clone(),
        rank=here.rank,
        hosts=hosts,
        where=here.where,
        keeps_store=here.keeps_store,
        silence=silence,
    )
    watch.start()
    try:
        dist.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            store=PrefixStore("group", cast(Any, store)),
            rank=here.rank,
            world_size=here.size,
            timeout=timedelta(seconds=COLLECTIVE_SECONDS),
            device_id=device if device.type == "cuda" else None,
        )
        yield Together(device=device, neighbours=hosts.count(hosts[here.rank]), store=store.clone(), watch=watch)
    except BaseException as error:
        if isinstance(error, RuntimeError):
            watch.doubt()
        watch.leave(None if isinstance(error, Interrupted) else f"{error}".partition("\n")[0] or type(error).__name__)
        raise
    dist.destroy_process_group()
    watch.leave()


def _device(here: Place) -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    if here.local_rank >= torch.cuda.device_count():
        raise RhapsodeError(
            f"rank {here.rank} is process {here.local_rank} of its machine, which has {torch.cuda.device_count()} GPUs",
            "start one process a GPU: --nproc-per-node gpu",
        )
    device = torch.device("cuda", here.local_rank)
    torch.cuda.set_device(device)
    return device


def _connect(here: Place, *, start: float) -> Store:
    from torch._C._distributed_c10d import PrefixStore, TCPStore

    try:
        store = TCPStore(
            here.host, here.port, None, here.keeps_store, timeout=timedelta(seconds=start), wait_for_workers=False
        )
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        if here.keeps_store:
            raise RhapsodeError(
                f"the ranks cannot meet at {here.where}: {reason}", "set MASTER_PORT (--master-port) to a free port"
            ) from None
        raise RhapsodeError(
            f"nobody answers at {here.where}, where the ranks were to meet: {reason}",
            "check MASTER_ADDR and MASTER_PORT, and that rank 0 has started",
        ) from None
    return cast(Store, PrefixStore(f"rhapsode/{here.attempt}", store))


def _roll_call(store: Store, here: Place, *, start: float) -> list[str]:
    """The machine of every rank, once all are there."""
    names = [f"host/{rank}" for rank in range(here.size)]
    store.set(page_of(here.rank), "0")
    store.set(names[here.rank], socket.gethostname())
    deadline = time.monotonic() + start
    while not store.check(names):
        if time.monotonic() > deadline:
            missing = [rank for rank, name in enumerate(names) if not store.check([name])]
            raise RhapsodeError(
                f"{len(missing)} of {here.size} ranks did not come within {start:.0f} s: "
                f"{', '.join(map(str, missing[:10]))}",
                "look at their messages; all must be given the same WORLD_SIZE, MASTER_ADDR and MASTER_PORT",
            )
        time.sleep(0.1)
    return [store.get(name).decode() for name in names]
