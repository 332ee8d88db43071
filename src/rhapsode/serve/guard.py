"""What a request must pass before any handler sees it: host, key, size, type, time. Everything is denied by default.

Decisions rest on what the server received (`scope`), never on a URL put together from headers.
"""

import asyncio
import contextlib
import hashlib
import hmac
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rhapsode.core.units import MiB
from rhapsode.serve.config import LOOPBACK_NAMES, ServeConfig
from rhapsode.serve.errors import ApiError

OPEN_PATHS: Final = frozenset({"/livez", "/readyz"})
MAX_HEADERS = 100
MAX_HEAD_BYTES = 16 * 1024
DISCARD_BYTES = 8 * MiB
DISCARD_SECONDS = 1.0


class Guard:
    """ASGI middleware around the whole application.

    Args:
        api_key: every path but the two of the load balancer needs it.
    """

    def __init__(self, app: ASGIApp, *, config: ServeConfig, api_key: str | None) -> None:
        self._app = app
        self._config = config
        self._key = None if api_key is None else _digest(api_key.encode())
        self._hosts = {*LOOPBACK_NAMES, config.host} if config.is_loopback else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        arriving = _Arriving(receive)
        try:
            body = await self._admit(scope, arriving)
        except ApiError as error:
            error.headers["connection"] = "close"
            if not _values(scope["headers"], b"expect"):
                await arriving.discard()
            await error.response(scope, receive, send)
            return
        await self._app(scope, _replay(body, receive), send)

    async def _admit(self, scope: Scope, arriving: "_Arriving") -> bytes:
        """The body of a request that may be handled."""
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        if len(headers) > MAX_HEADERS or sum(len(name) + len(value) for name, value in headers) > MAX_HEAD_BYTES:
            raise ApiError(431, "the request has too many or too large headers")
        self._check_host(headers)
        if self._key is not None and scope["path"] not in OPEN_PATHS:
            self._check_key(headers, self._key)
        names = {name for name, _ in headers}
        if scope["method"] != "POST" and not names & {b"content-length", b"transfer-encoding"}:
            return b""
        self._check_body_headers(headers, names)
        if scope["method"] == "POST":
            _check_type(headers)
        try:
            async with asyncio.timeout(self._config.body_timeout):
                return await self._read(arriving)
        except TimeoutError:
            raise ApiError(408, "the request's body did not arrive in time") from None

    def _check_host(self, headers: list[tuple[bytes, bytes]]) -> None:
        """On loopback a page in a browser must not reach us through a name of its own (DNS rebinding)."""
        hosts = _values(headers, b"host")
        if len(hosts) != 1:
            raise ApiError(400, "a request has exactly one Host")
        if self._hosts is None:
            return
        name, _, port = hosts[0].decode("latin-1").lower().rpartition(":")
        if not name or not port.isdigit():
            name = hosts[0].decode("latin-1").lower()
        if name not in self._hosts:
            raise ApiError(421, "this server does not answer for that Host")

    def _check_key(self, headers: list[tuple[bytes, bytes]], expected: bytes) -> None:
        """Compared as hashes, in constant time: neither length nor beginning of the key can be measured."""
        given = _values(headers, b"authorization")
        scheme, _, key = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
        is_right = hmac.compare_digest(_digest(key.strip()), expected)
        if scheme.lower() != b"bearer" or not is_right:
            raise ApiError(
                401,
                "give the API key as `Authorization: Bearer KEY`",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )

    def _check_body_headers(self, headers: list[tuple[bytes, bytes]], names: set[bytes]) -> None:
        if {b"content-length", b"transfer-encoding"} <= names:
            raise ApiError(400, "Content-Length and Transfer-Encoding contradict each other")
        if any(value.strip().lower() != b"identity" for value in _values(headers, b"content-encoding")):
            raise ApiError(415, "compressed bodies are not accepted")
        for length in _values(headers, b"content-length"):
            if not length.isdigit() or int(length) > self._config.max_body:
                raise self._too_large()

    async def _read(self, arriving: "_Arriving") -> bytes:
        """All of the body, counted as it arrives: what the headers say about its size proves nothing."""
        body = bytearray()
        while not arriving.is_complete:
            body += await arriving.part()
            if len(body) > self._config.max_body:
                raise self._too_large()
        return bytes(body)

    def _too_large(self) -> ApiError:
        return ApiError(413, f"the body is larger than {self._config.max_body} bytes", code="body_too_large")


class _Arriving:
    """A body on its way."""

    def __init__(self, receive: Receive) -> None:
        self.is_complete = False
        self._receive = receive

    async def part(self) -> bytes:
        """The next bytes."""
        message = await self._receive()
        self.is_complete = not message.get("more_body", False)
        if message["type"] == "http.disconnect":
            raise ApiError(400, "the client went before its body had arrived")
        body: bytes = message.get("body", b"")
        return body

    async def discard(self) -> None:
        """Read on for a while: a client that is still sending would see a reset instead of its answer."""
        left = DISCARD_BYTES
        with contextlib.suppress(TimeoutError, ApiError):
            async with asyncio.timeout(DISCARD_SECONDS):
                while left > 0 and not self.is_complete:
                    left -= len(await self.part())


def _check_type(headers: list[tuple[bytes, bytes]]) -> None:
    """A browser sends application/json to a foreign origin only after asking, which is never granted."""
    kinds = [value.partition(b";")[0].strip().lower() for value in _values(headers, b"content-type")]
    if kinds != [b"application/json"]:
        raise ApiError(415, "the body must be application/json")


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def _values(headers: list[tuple[bytes, bytes]], wanted: bytes) -> list[bytes]:
    return [value for name, value in headers if name == wanted]


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body once and then whatever comes, which is the client going."""
    is_given = False

    async def replay() -> Message:
        nonlocal is_given
        if is_given:
            return await receive()
        is_given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
