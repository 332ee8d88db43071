"""The application without a network: key, hosts, limits that would take long to reach from outside."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.types import Message

from rhapsode.core.errors import RhapsodeError
from rhapsode.engine.config import EngineConfig
from rhapsode.engine.engine import Engine
from rhapsode.engine.load import Loaded
from rhapsode.serve.app import create_app
from rhapsode.serve.config import ServeConfig, check_exposure

KEY = "secret-key"
TEXT = {"model": "tiny", "prompt": "the cat", "max_tokens": 2, "seed": 1}


def ask(
    loaded: Loaded,
    questions: Callable[[httpx.AsyncClient], Awaitable[Any]],
    *,
    config: ServeConfig | None = None,
    api_key: str | None = None,
) -> Any:
    """Run `questions` against a fresh application; afterwards it must hold nothing."""
    config = config or ServeConfig()
    engine = Engine(loaded.engine.model, config=config.engine)

    async def run() -> Any:
        app = create_app(Loaded(engine, loaded.tokenizer), name="tiny", config=config, api_key=api_key)
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client,
        ):
            return await questions(client)

    answer = asyncio.run(run())
    assert engine.num_open == 0
    assert engine.pages.num_free == engine.pages.count
    return answer


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (None, 401),
        ("", 401),
        ("Bearer", 401),
        ("Bearer ", 401),
        ("Bearer wrong", 401),
        (f"Bearer {KEY}x", 401),
        (f"Basic {KEY}", 401),
        (KEY, 401),
        (f"Bearer {KEY}", 200),
        (f"bearer  {KEY}", 200),
    ],
)
def test_only_the_key_opens(loaded: Loaded, header: str | None, status: int) -> None:
    headers = {} if header is None else {"authorization": header}
    response = ask(loaded, lambda client: client.post("/v1/completions", json=TEXT, headers=headers), api_key=KEY)
    assert response.status_code == status
    if status == 401:
        assert response.json()["error"]["code"] == "invalid_api_key"
        assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("path", ["/", "/health", "/v1/models", "/nowhere", "//livez", "/livez/", "/%6civez/x"])
def test_every_path_needs_the_key(loaded: Loaded, path: str) -> None:
    response = ask(loaded, lambda client: client.get(f"{path}?api_key={KEY}"), api_key=KEY)
    assert response.status_code == 401


def test_two_paths_are_open_and_say_nothing(loaded: Loaded) -> None:
    for path in ("/livez", "/readyz"):
        response = ask(loaded, lambda client, path=path: client.get(path), api_key=KEY)
        assert (response.status_code, response.json()) == (200, {"status": "ok"})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8000", "localhost:1", "LOCALHOST", "[::1]", "[::1]:8000"])
def test_names_of_this_machine_are_answered(loaded: Loaded, host: str) -> None:
    response = ask(loaded, lambda client: client.get("/v1/models", headers={"host": host}))
    assert response.status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "localhost/", "a@localhost", "::1"])
def test_other_names_are_not(loaded: Loaded, host: str) -> None:
    response = ask(loaded, lambda client: client.get("/v1/models", headers={"host": host}))
    assert response.status_code == 421


def test_a_full_queue_says_when_to_come_back(loaded: Loaded) -> None:
    config = ServeConfig(max_waiting=1, engine=EngineConfig(max_requests=1))

    async def questions(client: httpx.AsyncClient) -> list[httpx.Response]:
        too_many = await client.post("/v1/completions", json={**TEXT, "n": 3})
        first = [client.post("/v1/completions", json={**TEXT, "max_tokens": 100}) for _ in range(5)]
        return [too_many, *await asyncio.gather(*first), await client.post("/v1/completions", json=TEXT)]

    too_many, *rest, last = ask(loaded, questions, config=config)
    assert too_many.status_code == 429
    assert too_many.headers["retry-after"] == "1"
    assert too_many.json()["error"]["code"] == "queue_full"
    assert sorted(response.status_code for response in rest) == [200, 200, 429, 429, 429]
    assert last.status_code == 200


@pytest.mark.parametrize("stream", [False, True])
def test_a_deadline_that_passes_ends_the_request(loaded: Loaded, stream: bool) -> None:
    asked = {**TEXT, "max_tokens": 2000, "n": 8, "stream": stream}
    response = ask(loaded, lambda client: client.post("/v1/completions", json=asked), config=ServeConfig(deadline=0.05))
    assert "deadline_exceeded" in response.text
    if not stream:
        assert response.status_code == 504


def broken(*_: object) -> None:
    raise ZeroDivisionError


def test_a_failure_of_ours_is_not_described_to_strangers(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Engine, "step", broken)
    response = ask(loaded, lambda client: client.post("/v1/completions", json=TEXT))
    assert response.status_code == 500
    assert response.json()["error"]["code"] == "generation_failed"
    assert "ZeroDivision" in caplog.text
    monkeypatch.setattr("rhapsode.serve.service.Service.read", broken)
    response = ask(loaded, lambda client: client.post("/v1/completions", json=TEXT))
    assert response.json()["error"] == {
        "message": "internal error",
        "type": "server_error",
        "param": None,
        "code": "internal_error",
    }


def raw(app: FastAPI, messages: list[Message | float], headers: list[tuple[bytes, bytes]]) -> int:
    """The status for a request whose body arrives in `messages`; a number is a pause in seconds."""
    sent: list[Message] = []
    arriving = iter(messages)

    async def receive() -> Message:
        for message in arriving:
            if not isinstance(message, float):
                return message
            await asyncio.sleep(message)
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/completions",
        "raw_path": b"/v1/completions",
        "query_string": b"",
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json"), *headers],
    }

    async def run() -> None:
        async with app.router.lifespan_context(app):
            await app(scope, receive, send)

    asyncio.run(run())
    status: int = sent[0]["status"]
    return status


def part(body: bytes, *, more: bool = True) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


@pytest.mark.parametrize(
    ("messages", "headers", "status"),
    [
        ([part(b"x" * 600), part(b"x" * 600)], [(b"transfer-encoding", b"chunked")], 413),
        ([], [(b"content-length", b"1001")], 413),
        ([], [(b"content-length", b"9" * 30)], 413),
        ([], [(b"content-length", b"-1")], 413),
        ([], [(b"content-length", b"5"), (b"transfer-encoding", b"chunked")], 400),
        ([part(b"{"), 5.0], [(b"transfer-encoding", b"chunked")], 408),
        ([part(b"{")], [(b"transfer-encoding", b"chunked")], 400),
        ([part(b"{}", more=False)], [(b"content-encoding", b"gzip")], 415),
        ([part(b"{}", more=False)], [(b"content-type", b"application/json")], 415),
        ([part(b"{}", more=False)], [(b"x", b"y")] * 100, 431),
        ([part(b"{}", more=False)], [(b"x", b"y" * 20_000)], 431),
        ([part(b"{}", more=False)], [(b"host", b"localhost")], 400),
    ],
)
def test_bodies_and_heads_that_do_not_pass(
    loaded: Loaded, messages: list[Message | float], headers: list[tuple[bytes, bytes]], status: int
) -> None:
    app = create_app(loaded, name="tiny", config=ServeConfig(max_body=1000, body_timeout=0.05))
    assert raw(app, messages, headers) == status


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org"])
def test_the_network_is_served_only_with_a_key(host: str) -> None:
    config = ServeConfig(host=host)
    with pytest.raises(RhapsodeError, match="no API key"):
        check_exposure(config, api_key=None)
    check_exposure(config, api_key=KEY)


@pytest.mark.parametrize("key", ["", " x", "ключ", "a\nb"])
def test_a_key_that_no_header_can_carry_is_refused(key: str) -> None:
    with pytest.raises(RhapsodeError, match="API key"):
        check_exposure(ServeConfig(), api_key=key)
