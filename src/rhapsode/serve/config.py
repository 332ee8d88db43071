"""Where a server listens and what it refuses. Free of torch."""

import ipaddress

from pydantic import Field

from rhapsode.core.config import Bytes, Config
from rhapsode.core.errors import RhapsodeError
from rhapsode.core.units import MiB
from rhapsode.engine.config import EngineConfig

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")


class ServeConfig(Config):
    """One server. Times are in seconds."""

    host: str = Field(default="127.0.0.1", description="Address to listen on; beyond this machine needs an API key.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on; 0 lets the system choose.")
    max_body: Bytes = Field(default=2 * MiB, description="Largest request body.")
    max_choices: int = Field(default=8, ge=1, description="Answers to one prompt (n).")
    max_prompts: int = Field(default=64, ge=1, description="Prompts in one completion request.")
    max_messages: int = Field(default=1024, ge=1, description="Messages in one conversation.")
    max_waiting: int = Field(default=256, ge=0, description="Answers that may wait beyond those being written.")
    max_connections: int = Field(default=1024, ge=1, description="Open connections; more are refused with 503.")
    head_timeout: float = Field(default=5.0, gt=0, description="A request's head must have arrived.")
    body_timeout: float = Field(default=30.0, gt=0, description="A request's body must have arrived.")
    write_timeout: float = Field(default=30.0, gt=0, description="A reader of a stream that takes nothing is dropped.")
    deadline: float = Field(default=300.0, gt=0, description="A request must be answered, waiting included.")
    keep_alive: int = Field(default=5, ge=1, description="An idle connection is closed.")
    grace: int = Field(default=30, ge=0, description="After SIGTERM, answers being written may still finish.")
    engine: EngineConfig = Field(default_factory=EngineConfig, description="Memory and batch size.")

    @property
    def is_loopback(self) -> bool:
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_exposure(config: ServeConfig, *, api_key: str | None) -> None:
    """Refuse to serve the network without a key.

    Raises:
        RhapsodeError: `host` is not loopback and there is no key, or the key is one that no client could send.
    """
    if api_key is not None and not (api_key.isascii() and api_key.isprintable() and api_key.strip() == api_key != ""):
        raise RhapsodeError("the API key is empty or holds characters that no header can carry", "use plain ASCII")
    if not config.is_loopback and api_key is None:
        raise RhapsodeError(
            f"{config.host} can be reached from other machines, and there is no API key",
            "set RHAPSODE_API_KEY, or listen on 127.0.0.1",
        )
