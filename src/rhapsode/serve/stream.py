"""Answers to clients that may leave: server-sent events, and whole answers, both given up when nobody listens."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from rhapsode.serve.errors import from_failure

DONE = b"data: [DONE]\n\n"

T = TypeVar("T")


def event(value: Mapping[str, Any]) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n\n"


async def while_connected(receive: Receive, work: Awaitable[T]) -> T:
    """The result of `work`, which is cancelled when the client goes.

    Raises:
        ClientDisconnect: it went.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        task.cancel()
        gone.cancel()
        await asyncio.gather(task, gone, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class EventStream(Response):
    """Events as they come. A failure on the way becomes the last event, since the status is sent long before.

    Args:
        events: what to send.
        close: called in the end, whatever happened.
        write_timeout: seconds that a client may take nothing before it counts as gone.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        events: AsyncIterator[Mapping[str, Any]],
        *,
        close: Callable[[], None],
        write_timeout: float,
        headers: Mapping[str, str],
    ) -> None:
        super().__init__(headers={**headers, "cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._events = events
        self._close = close
        self._write_timeout = write_timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        try:
            await while_connected(receive, self._send_all(send))
        except (ClientDisconnect, TimeoutError):
            pass  # nobody listens; an answer that is not complete makes the server close the connection
        finally:
            self._close()

    async def _send_all(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for chunk in self._chunks():
            async with asyncio.timeout(self._write_timeout):
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _chunks(self) -> AsyncIterator[bytes]:
        try:
            async for value in self._events:
                yield event(value)
        except Exception as error:  # noqa: BLE001 - the client is told; the engine has logged what is ours
            yield event(from_failure(error).body)
        yield DONE
