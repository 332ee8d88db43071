"""The engine in a thread of its own, used from asyncio.

Only the worker's thread touches the engine after the start. The event loop sends it commands through a queue; outputs
come back by `call_soon_threadsafe`. What goes wrong in the engine itself ends the requests that are open, not the
worker.
"""

import asyncio
import logging
import queue
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from typing import NamedTuple

from rhapsode.core.errors import RhapsodeError
from rhapsode.engine.engine import Engine
from rhapsode.engine.output import Output
from rhapsode.engine.sampling import Sampling
from rhapsode.engine.scheduler import RequestId

log = logging.getLogger(__name__)


class QueueFullError(RhapsodeError):
    """The queue is full."""


class Work(NamedTuple):
    """One request for the engine."""

    prompt: Sequence[int]
    sampling: Sampling
    salt: bytes = b""


class _Place(NamedTuple):
    """Where the outputs of a request go."""

    job: "Job"
    choice: int


class Job:
    """Requests that were submitted together. Iterate over `outputs`, and `close` in the end."""

    def __init__(self, worker: "Worker", works: Sequence[Work]) -> None:
        self.num_open = len(works)
        self._is_open = [True] * len(works)
        self._worker = worker
        self._loop = asyncio.get_running_loop()
        self._arrived: asyncio.Queue[list[tuple[int, Output]]] = asyncio.Queue()

    async def outputs(self, *, deadline: float | None = None) -> AsyncIterator[tuple[int, Output]]:
        """(index of the request, output) as they come, until every request is finished or was stopped.

        Raises:
            TimeoutError: the loop's clock passed `deadline` before that.
        """
        while self.num_open:
            async with asyncio.timeout_at(deadline):
                arrived = await self._arrived.get()
            for index, output in arrived:
                if not self._is_open[index]:
                    continue
                if output.finish_reason is not None:
                    self.stop(index)
                yield index, output

    def stop(self, index: int) -> None:
        """No more of this request. Once is enough; more often is harmless."""
        if self._is_open[index]:
            self._is_open[index] = False
            self.num_open -= 1
            self._worker.forget(self, index)

    def close(self) -> None:
        """No more of any."""
        for index in range(len(self._is_open)):
            self.stop(index)

    def deliver(self, outputs: list[tuple[int, Output]]) -> None:
        """Called by the worker's thread. A loop that is closed has nobody to tell."""
        try:
            self._loop.call_soon_threadsafe(self._arrived.put_nowait, outputs)
        except RuntimeError:
            log.debug("the event loop of a job is closed")


class Worker:
    """A thread that runs an engine.

    Args:
        max_waiting: so many requests may wait beyond those that run; more are refused with `QueueFullError`.
    """

    def __init__(self, engine: Engine, *, max_running: int, max_waiting: int) -> None:
        self.engine = engine
        self.num_open = 0
        self._max_open = max_running + max_waiting
        self._commands: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._places: dict[RequestId, _Place] = {}
        self._numbers: dict[_Place, RequestId] = {}
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def submit(self, works: Sequence[Work]) -> Job:
        """Queue requests, all or none. Call from the event loop.

        Raises:
            QueueFullError: the queue has no room for them.
            RhapsodeError: a request that the engine refuses; none is queued.
        """
        if self.num_open + len(works) > self._max_open:
            raise QueueFullError("the server is busy: its queue is full", "try again in a moment")
        for work in works:
            self.engine.check(work.prompt, work.sampling)
        job = Job(self, works)
        self.num_open += len(works)
        self._commands.put(lambda: self._add(job, works))
        return job

    def forget(self, job: Job, index: int) -> None:
        """A request's place is free again. Call from the event loop, once a request."""
        self.num_open -= 1
        self._commands.put(lambda: self._drop(_Place(job, index)))

    def stop(self) -> None:
        """End the thread; what is open fails. More than once is harmless."""
        self._commands.put(None)
        self._thread.join()

    def _run(self) -> None:
        while self._obey():
            try:
                outputs = self.engine.step()
            except Exception:
                log.exception("the engine failed; open requests end")
                self._fail_all("the engine failed")
            else:
                self._deliver(outputs)
        self._fail_all("the server stops")

    def _obey(self) -> bool:
        """Carry out all commands that wait; with nothing to compute, wait for one. False is the end."""
        is_idle = self.engine.num_open == 0
        while is_idle or not self._commands.empty():
            command = self._commands.get()
            if command is None:
                return False
            command()
            is_idle = self.engine.num_open == 0
        return True

    def _add(self, job: Job, works: Sequence[Work]) -> None:
        for index, work in enumerate(works):
            place = _Place(job, index)
            number = self.engine.add(work.prompt, work.sampling, salt=work.salt)
            self._places[number], self._numbers[place] = place, number

    def _drop(self, place: _Place) -> None:
        number = self._numbers.pop(place, None)
        if number is not None:
            del self._places[number]
            self.engine.cancel(number)

    def _deliver(self, outputs: Sequence[Output]) -> None:
        by_job: dict[Job, list[tuple[int, Output]]] = {}
        for output in outputs:
            place = self._places[output.request]
            by_job.setdefault(place.job, []).append((place.choice, output))
        for job, pairs in by_job.items():
            job.deliver(pairs)

    def _fail_all(self, why: str) -> None:
        error = RhapsodeError(why, "try again")
        self._deliver([Output(number, None, "error", error=error) for number in self._places])
        for number in self._places:
            self.engine.cancel(number)
        self._places.clear()
        self._numbers.clear()
