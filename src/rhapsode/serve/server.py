"""Listening: a socket, uvicorn with its limits set, signals.

The first SIGTERM or Ctrl-C stops new connections and lets answers that are being written finish within `grace` seconds;
the second ends at once. `serve` then returns: a server that was told to stop has done its work.
"""

import asyncio
import os
import socket
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import h11
import torch
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from rhapsode.core.errors import RhapsodeError
from rhapsode.engine.heads import load_head
from rhapsode.engine.load import load_engine
from rhapsode.serve.app import create_app
from rhapsode.serve.config import ServeConfig, check_exposure
from rhapsode.serve.guard import MAX_HEAD_BYTES
from rhapsode.serve.heads import create_head_app
from rhapsode.weights.directory import read_spec

API_KEY = "RHAPSODE_API_KEY"


def serve(
    model_dir: Path,
    *,
    config: ServeConfig | None = None,
    name: str | None = None,
    api_key: str | None = None,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    on_start: Callable[[str], None] = lambda url: None,  # noqa: ARG005
) -> None:
    """Serve a model directory until a signal comes.

    Args:
        name: what clients call the model; the directory's name if not given.
        api_key: RHAPSODE_API_KEY of the environment if not given.
        on_start: told the base URL once connections are accepted.

    Raises:
        RhapsodeError: the model cannot be loaded, the address is taken, or it is open to others without a key.
    """
    config = config or ServeConfig()
    key = os.environ.get(API_KEY) if api_key is None else api_key
    check_exposure(config, api_key=key)
    listener = listen(config)
    with listener:
        name = name or model_dir.resolve().name
        if read_spec(model_dir).head is not None:
            read = load_head(model_dir, dtype=dtype, device=device)
            run(
                create_head_app(read, name=name, config=config, api_key=key), listener, config=config, on_start=on_start
            )
            return
        loaded = load_engine(model_dir, config=config.engine, dtype=dtype, device=device)
        app = create_app(loaded, name=name, config=config, api_key=key)
        try:
            run(app, listener, config=config, on_start=on_start)
        finally:
            app.state.worker.stop()  # a second signal skips the application's own shutdown


def listen(config: ServeConfig) -> socket.socket:
    """A bound socket: an address that is taken is found out before weights are loaded."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    try:
        return socket.create_server((config.host, config.port), family=family)
    except (OSError, UnicodeError) as error:
        raise RhapsodeError(
            f"cannot listen on {config.host}:{config.port}: {error}", "choose another host or port"
        ) from error


def run(app: FastAPI, listener: socket.socket, *, config: ServeConfig, on_start: Callable[[str], None]) -> None:
    """Run `app` on `listener` until a signal comes."""
    host = f"[{config.host}]" if ":" in config.host else config.host
    url = f"http://{host}:{listener.getsockname()[1]}/v1"

    class TimedProtocol(HeadTimeout):
        head_timeout = config.head_timeout

    server = _Server(
        uvicorn.Config(
            app,
            http=TimedProtocol,
            ws="none",
            lifespan="on",
            loop="asyncio",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            h11_max_incomplete_event_size=MAX_HEAD_BYTES,
            limit_concurrency=config.max_connections,
            timeout_keep_alive=config.keep_alive,
            timeout_graceful_shutdown=config.grace,
        ),
        on_start=lambda: on_start(url),
    )
    server.run(sockets=[listener])


class _Server(uvicorn.Server):
    """Says when it has started, and ends without raising the signal again."""

    def __init__(self, config: uvicorn.Config, *, on_start: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_start = on_start

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_start()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self.force_exit = self.should_exit
        self.should_exit = True


class HeadTimeout(H11Protocol):
    """uvicorn waits for ever for a request's head to arrive; this closes the connection instead."""

    head_timeout: float
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop_waiting()
        elif self._head_timer is None:
            self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait_for_head(self) -> None:
        self._head_timer = self.loop.call_later(self.head_timeout, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
