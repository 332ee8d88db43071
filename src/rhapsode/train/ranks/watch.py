"""Noticing that a rank is lost, and ending the others instead of letting them wait for it.

Every rank signs a page of the common store again and again, from a thread of its own, and reads what the others signed.
One whose signature stays the same for too long was killed, hangs, or lost its network: whoever notices says which it
is and ends its own process, as the thread that computes cannot be called back from a collective. A rank that falls by
an error of its own signs with that error, so that the others know at once.
"""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol, Self

from rhapsode.core.events import Events

INTERVAL = 1.0
SILENCE = 30.0
"""Seconds: long enough for whatever keeps a healthy process from signing, such as a disk that does not answer."""
DOUBT = 5.0
"""The same once a collective has failed: somebody is gone, and it is only a question of who."""
READERS = 64
"""Every rank reads every page, so more ranks than these do so less often."""
LEFT = "left"
FELL = "fell: "


class Store(Protocol):
    """The part of torch's stores that is used; a call waits for ever when the other side has stopped."""

    def set(self, key: str, value: str) -> None: ...
    def get(self, key: str) -> bytes: ...
    def check(self, keys: list[str]) -> bool: ...
    def multi_get(self, keys: list[str]) -> list[bytes]: ...

    def clone(self) -> Self:
        """Another connection, for another thread."""
        ...


class Loss(NamedTuple):
    """A rank that is gone, and how that showed. -1 is the store itself, and with it perhaps the rank that keeps it."""

    rank: int
    reason: str


class Watch:
    """Two threads: one that signs and reads, and may be stuck in that; one that judges by the clock.

    Args:
        store: a connection of its own.
        hosts: the machine of each rank.
        keeps_store: the store goes when this process does, so it goes last.
        end: what ends the process.
    """

    def __init__(
        self,
        store: Store,
        *,
        rank: int,
        hosts: list[str],
        where: str,
        keeps_store: bool,
        silence: float = SILENCE,
        end: Callable[[int], None] = os._exit,
    ) -> None:
        self._store, self._rank, self._hosts, self._where = store, rank, hosts, where
        self._keeps_store, self._end = keeps_store, end
        self._interval = min(max(INTERVAL, len(hosts) / READERS), silence / 4)
        self._silence = max(silence, 4 * self._interval)
        self._events = Events()
        self._over = threading.Event()
        self._failed: str | None = None
        self._pages = [b""] * len(hosts)
        self._heard = [time.monotonic()] * len(hosts)
        self._answered = time.monotonic()
        self._signer = threading.Thread(target=self._sign, name="signature of this rank", daemon=True)

    def start(self) -> None:
        self._signer.start()
        threading.Thread(target=self._judge, name="judge of ranks", daemon=True).start()

    def listen(self, events: Events) -> None:
        self._events = events

    def leave(self, reason: str | None = None) -> None:
        """Stop watching. The others go on without this rank, or fall with it if it gives a `reason`."""
        self._over.set()
        self._signer.join(self._silence)
        with contextlib.suppress(RuntimeError):  # a store that is gone needs no goodbye
            self._store.set(page_of(self._rank), LEFT if reason is None else FELL + reason)
            if self._keeps_store:
                self._wait_for_others(seconds=self._silence if reason is None else 3 * self._interval)

    def doubt(self) -> None:
        """A collective has failed: wait as long as it takes to learn who is lost, which ends the process."""
        self._silence = min(self._silence, DOUBT)
        self._over.wait(self._silence + 3 * self._interval)

    def _sign(self) -> None:
        pages, count = [page_of(rank) for rank in range(len(self._hosts))], 0
        try:
            while not self._over.is_set():
                count += 1
                self._store.set(pages[self._rank], str(count))
                found, now = self._store.multi_get(pages), time.monotonic()
                for rank, page in enumerate(found):
                    if page != self._pages[rank]:
                        self._pages[rank], self._heard[rank] = page, now
                self._answered = now
                self._over.wait(self._interval)
        except RuntimeError as error:
            self._failed = str(error).splitlines()[0]

    def _judge(self) -> None:
        woke = time.monotonic()
        while not self._over.wait(self._interval / 2):
            before, woke = woke, time.monotonic()
            if woke - before > 2 * self._interval:  # it was this process that slept
                self._heard, self._answered = [woke] * len(self._hosts), woke
            elif (loss := self._lost(woke)) is not None and not self._over.is_set():
                self._tell(loss)
                if self._keeps_store:
                    time.sleep(2 * self._interval)  # the others find out for themselves
                self._end(1)
                return

    def _wait_for_others(self, *, seconds: float) -> None:
        others = [page_of(rank) for rank in range(len(self._hosts)) if rank != self._rank]
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and any(
            page != LEFT.encode() and not page.startswith(FELL.encode()) for page in self._store.multi_get(others)
        ):
            time.sleep(self._interval / 4)

    def _lost(self, now: float) -> Loss | None:
        for rank, page in enumerate(self._pages):
            if rank != self._rank and page.startswith(FELL.encode()):
                return Loss(rank, f"has stopped: {page.decode().removeprefix(FELL)}")
        if self._failed is not None:
            return Loss(-1, f"is gone: {self._failed}")
        for rank, page in enumerate(self._pages):
            silent = now - self._heard[rank]
            # while the store does not answer nobody is heard, and nobody can be blamed for it
            if rank != self._rank and page != LEFT.encode() and silent - (now - self._answered) > self._silence:
                return Loss(rank, f"has been silent for {silent:.0f} s: it was killed, hangs, or lost its network")
        if now - self._answered > self._silence:
            return Loss(-1, f"has not answered for {now - self._answered:.0f} s")
        return None

    def _tell(self, loss: Loss) -> None:
        size, rank = len(self._hosts), max(loss.rank, 0)
        who = f"rank {rank} of {size} ({self._hosts[rank]})"
        if loss.rank < 0:
            who = f"the store at {self._where}, kept by torchrun or by {who},"
        with contextlib.suppress(Exception):
            self._events.emit("lost", rank=rank, host=self._hosts[rank], reason=loss.reason)
        message = f"error: rank {self._rank}: {who} {loss.reason}\n hint: start all ranks again with --resume\n"
        with contextlib.suppress(OSError):
            sys.stderr.write(message)
            sys.stderr.flush()


def page_of(rank: int) -> str:
    """The key that a rank signs; all must have signed once before anybody watches."""
    return f"watch/{rank}"
