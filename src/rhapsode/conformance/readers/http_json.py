"""JSON over HTTP with the standard library: bounded in time and size, and the key goes to nobody else."""

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any, NamedTuple

from rhapsode.core.errors import RhapsodeError

TIMEOUT = 120.0
"""Seconds without a byte; a large model on a small machine takes its time for a first token."""
MOST_BYTES = 2 << 20


class Reply(NamedTuple):
    """A status and the body, if that is JSON."""

    status: int
    value: Any


class HttpJson:
    """One server. `key` is sent as a bearer token, if there is one."""

    def __init__(self, *, key: str | None, timeout: float = TIMEOUT) -> None:
        self._key, self._timeout = key, timeout
        self._opener = urllib.request.build_opener(_Stay)

    def ask(self, url: str, body: Mapping[str, Any] | None = None) -> Reply:
        """GET `url`, or POST `body` to it. An error that the server reports is a reply too.

        Raises:
            RhapsodeError: there is no server, it broke off, or it wants another key.
        """
        headers = {"Accept": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        data = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            data = json.dumps(body).encode()
        try:
            reply = self._reply(urllib.request.Request(url, data=data, headers=headers))
        except (OSError, http.client.HTTPException) as error:  # URLError and timeouts are OSErrors
            why = getattr(error, "reason", None) or error
            raise RhapsodeError(
                f"{url} does not answer: {why}", "check the address, and that the server runs"
            ) from None
        except ValueError as error:
            raise RhapsodeError(f"{url} is no address: {error}", "give one such as http://127.0.0.1:8000/v1") from None
        if reply.status in (401, 403):
            raise RhapsodeError(
                f"{url} refuses the key (HTTP {reply.status})", "set OPENAI_API_KEY to one that it takes"
            )
        return reply

    def _reply(self, request: urllib.request.Request) -> Reply:
        try:
            answer = self._opener.open(request, timeout=self._timeout)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            return Reply(answer.status, _json(answer.read(MOST_BYTES)))


class _Stay(urllib.request.HTTPRedirectHandler):
    """Elsewhere is another server: the reply is the redirection itself."""

    def redirect_request(self, *_args: Any, **_kwargs: Any) -> None:
        return None


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None
