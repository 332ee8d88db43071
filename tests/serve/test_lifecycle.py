"""Clients that leave, linger or send half a request; and the end of the server."""

import json
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import openai
import pytest
from tests.serve.conftest import start

from rhapsode.core.errors import RhapsodeError
from rhapsode.serve.config import ServeConfig
from rhapsode.serve.server import listen, serve

ENDLESS = {"model": "tiny", "prompt": "the cat", "max_tokens": 1900, "logit_bias": {"1": -100, "4": -100}}
LONG = {**ENDLESS, "prompt": ["the cat"] * 8, "n": 8}


def connect(url: str) -> socket.socket:
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname, parts.port), timeout=10)


def request(value: dict[str, object]) -> bytes:
    body = json.dumps(value).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Content-Type: application/json\r\n\r\n" + body


def wait_until_idle(http: httpx.Client, *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while (load := http.get("/health").json()) and (load["open"] or load["running"]):
        assert time.monotonic() < deadline, load
        time.sleep(0.02)


def wait_until_refused(url: str, *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            connect(url).close()
        except ConnectionRefusedError:
            return
        time.sleep(0.02)
    pytest.fail("new connections are still accepted")


def test_a_client_that_leaves_a_stream_frees_its_place(http: httpx.Client) -> None:
    with http.stream("POST", "/v1/completions", json={**LONG, "stream": True}) as response:
        lines = response.iter_lines()
        assert next(lines).startswith("data: ")
        assert http.get("/health").json()["open"] > 0
    wait_until_idle(http, seconds=3.0)  # the whole answer would take several times as long


@pytest.mark.parametrize("stream", [False, True])
def test_clients_that_vanish_at_once_leave_nothing_behind(url: str, http: httpx.Client, stream: bool) -> None:
    for _ in range(30):
        with connect(url) as connection:
            connection.sendall(request({**ENDLESS, "stream": stream}))
    time.sleep(0.1)
    wait_until_idle(http, seconds=3.0)


def test_a_head_that_does_not_arrive_closes_the_connection(url: str, http: httpx.Client) -> None:
    with connect(url) as silent, connect(url) as slow:
        slow.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: loc")
        began = time.monotonic()
        for _ in range(3):
            time.sleep(0.1)
            slow.sendall(b"a")
        assert silent.recv(100) == slow.recv(100) == b""
        assert time.monotonic() - began < 8
    assert http.get("/livez").status_code == 200


def test_a_body_may_take_longer_than_a_head(url: str) -> None:
    data = request({"model": "tiny", "prompt": "x", "max_tokens": 1})
    with connect(url) as connection:
        connection.sendall(data[:-5])
        time.sleep(1.5)
        connection.sendall(data[-5:])
        assert connection.recv(100).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "head",
    [
        b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 2**20,
        b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 10_000 + b"\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
        b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n{}",
    ],
)
def test_what_is_not_a_request_is_refused_or_closed(url: str, http: httpx.Client, head: bytes) -> None:
    answer = b""
    with connect(url) as connection:
        try:
            connection.sendall(head)
            answer = connection.recv(100)
        except (ConnectionResetError, BrokenPipeError):
            pass
    assert answer == b"" or answer[9:12] in {b"400", b"431"}
    assert http.get("/livez").status_code == 200


def test_pipelined_requests_are_answered_in_order(url: str) -> None:
    get = "GET /v1/models/{} HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with connect(url) as connection:
        connection.sendall("".join(get.format(name) for name in ("a1", "b2", "c3")).encode())
        data = b""
        while b"c3" not in data:
            data += connection.recv(4096)
    assert data.index(b"a1") < data.index(b"b2") < data.index(b"c3")


def test_a_reader_that_stops_reading_does_not_stop_the_others(url: str, client: openai.OpenAI) -> None:
    with connect(url) as stalled:
        stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        stalled.sendall(request({**ENDLESS, "n": 8, "stream": True, "logprobs": 20}))
        assert client.completions.create(model="tiny", prompt="x", max_tokens=3).usage is not None


@pytest.fixture
def own_server(model_dir: Path) -> Iterator[tuple[object, str]]:
    process, url = start(model_dir)
    yield process, url
    process.kill()
    process.communicate()


def test_sigterm_lets_answers_finish_and_takes_no_new_ones(own_server) -> None:  # type: ignore[no-untyped-def]
    process, url = own_server
    asked = {"model": "tiny", "prompt": "the cat", "max_tokens": 600, "seed": 1}
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client:
        whole = client.completions.create(**asked).choices[0].text
        stream = client.completions.create(**asked, stream=True)
        text = next(stream).choices[0].text
        process.send_signal(signal.SIGTERM)
        wait_until_refused(url, seconds=10)
        text += "".join(chunk.choices[0].text for chunk in stream)
    assert text == whole
    assert process.wait(timeout=20) == 0


def test_the_second_sigterm_ends_at_once(own_server) -> None:  # type: ignore[no-untyped-def]
    process, url = own_server
    with connect(url) as connection:
        connection.sendall(request({**LONG, "stream": True}))
        assert connection.recv(100).startswith(b"HTTP/1.1 200")
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=15) == 0


def test_an_address_that_is_taken_is_an_error_before_the_model_is_loaded() -> None:
    with listen(ServeConfig(port=0)) as listener:
        taken = ServeConfig(port=listener.getsockname()[1])
        with pytest.raises(RhapsodeError, match="cannot listen"):
            serve(Path("no such model"), config=taken)
    with pytest.raises(RhapsodeError, match="no API key"):
        serve(Path("no such model"), config=ServeConfig(host="0.0.0.0"))
