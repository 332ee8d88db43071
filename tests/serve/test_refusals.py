"""What a client must not ask for is refused with a status, a reason and the name of the field."""

from typing import Any

import httpx
import openai
import pytest

CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}
TEXT = {"model": "tiny", "prompt": "hi"}


def error_of(response: httpx.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    body = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    return body["error"]


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("n", [0, -1, 9, 10**9, 1.5, True, "1"]),
        ("max_tokens", [0, -1, 1.5, "5"]),
        ("max_completion_tokens", [0, True]),
        ("temperature", [-1, 101, "hot", True]),
        ("top_p", [-0.1, 1.5]),
        ("top_k", [-5, 0.5]),
        ("min_p", [1.5]),
        ("frequency_penalty", [-3, 1e30]),
        ("presence_penalty", [3]),
        ("repetition_penalty", [0]),
        ("logit_bias", [{"x": 1}, {"-1": 1}, {"5": 101}, {"999999": 1}, {str(i): 1 for i in range(301)}, []]),
        ("stop", [[""], "", ["a"] * 5, ["a" * 129], 5, [5]]),
        ("seed", [2**64, 1.5, "x"]),
        ("stream", ["yes", 1]),
        ("top_logprobs", [21, -1]),
        ("messages", [[], "hi", {}, [{"role": "user", "content": "x"}] * 1025]),
        ("model", [None, 5]),
        ("suffix", ["x"]),
        ("tools", [[{"type": "function"}]]),
        ("response_format", [{"type": "json_object"}]),
        ("chat_template", ["{{ 1 }}"]),
        ("nonsense", [1]),
    ],
)
def test_a_field_is_named(http: httpx.Client, field: str, values: list[Any]) -> None:
    for value in values:
        extra = {"logprobs": True} if field == "top_logprobs" else {}
        error = error_of(http.post("/v1/chat/completions", json={**CHAT, **extra, field: value}), 400)
        assert (error["param"] or "").split("[")[0].split(".")[0] == field
        assert field in error["message"]
        assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    "message",
    [
        {"role": "root", "content": "x"},
        {"role": "tool", "content": "x"},
        {"role": "user"},
        {"role": "user", "content": None},
        {"role": "user", "content": "x", "extra": 1},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://169.254.169.254/"}}]},
        {"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "input_audio"}]},
        {"role": "assistant", "content": "x", "tool_calls": [{}]},
    ],
)
def test_a_message_that_is_none_is_named(http: httpx.Client, message: dict[str, Any]) -> None:
    error = error_of(http.post("/v1/chat/completions", json={**CHAT, "messages": [*CHAT["messages"], message]}), 400)
    assert error["param"].startswith("messages[1]")


def test_a_system_message_is_the_first(http: httpx.Client) -> None:
    messages = [*CHAT["messages"], {"role": "system", "content": "x"}]
    assert (
        "messages[1]"
        in error_of(http.post("/v1/chat/completions", json={**CHAT, "messages": messages}), 400)["message"]
    )


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("prompt", [None, 5, [], [[]], [5, "x"], ["x", 5], [-1], [10**6], [1.0], [True], ["x"] * 65, {}]),
        ("max_tokens", [-1]),
        ("logprobs", [21, True]),
        ("suffix", ["x"]),
        ("best_of", [2]),
        ("echo", ["yes"]),
    ],
)
def test_a_field_of_completions_is_named(http: httpx.Client, field: str, values: list[Any]) -> None:
    for value in values:
        error = error_of(http.post("/v1/completions", json={**TEXT, field: value}), 400)
        assert field in error["message"]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_null_is_the_default_of_every_field(http: httpx.Client, path: str) -> None:
    base = CHAT if "chat" in path else TEXT
    for field in (
        "n",
        "stop",
        "seed",
        "temperature",
        "top_p",
        "logit_bias",
        "stream",
        "stream_options",
        "logprobs",
        "user",
        "presence_penalty",
        "frequency_penalty",
        "metadata",
    ):
        assert http.post(path, json={**base, "max_tokens": 1, field: None}).status_code == 200, field


def test_contradictions(http: httpx.Client) -> None:
    for extra in (
        {"stream_options": {"include_usage": True}},
        {"top_logprobs": 2},
        {"max_tokens": 3, "max_completion_tokens": 4},
        {"stream": True, "stream_options": {"usage": True}},
    ):
        error_of(http.post("/v1/chat/completions", json={**CHAT, **extra}), 400)


def test_a_prompt_that_is_too_long_is_refused_with_the_counts_and_the_server_lives(
    http: httpx.Client, client: openai.OpenAI
) -> None:
    for length in (2048, 2049, 20480):
        error = error_of(http.post("/v1/completions", json={**TEXT, "prompt": [5] * length}), 400)
        assert error["code"] == "context_length_exceeded"
        assert str(length) in error["message"]
        assert "2048" in error["message"]
    with pytest.raises(openai.BadRequestError, match="context"):
        client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": "x7" * 4000}])
    assert client.completions.create(model="tiny", prompt="x", max_tokens=1).choices


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"x"',
        b"5",
        b'{"model": "tiny", "prompt": "x"',
        b'{"model": "tiny", "prompt": "x"} x',
        b'\xef\xbb\xbf{"model": "tiny", "prompt": "x"}',
        b'{"model": "tiny", "model": "tiny", "prompt": "x"}',
        b'{"model": "tiny", "prompt": "x", "temperature": NaN}',
        b'{"model": "tiny", "prompt": "x", "temperature": -Infinity}',
        b'{"model": "tiny", "prompt": "x", "temperature": 1e999}',
        b'{"model": "tiny", "prompt": "x", "seed": ' + b"9" * 5000 + b"}",
        b'{"model": "tiny", "prompt": "\\ud800"}',
        b'{"model": "tiny", "prompt": "\xff"}',
        b'{"model": "tiny", "prompt": ' + b"[" * 100_000,
        b'{"a":' * 70 + b"1" + b"}" * 70,
        '{"model": "tiny", "prompt": "x"}'.encode("utf-16"),
    ],
)
def test_a_body_that_is_not_one_json_object_with_one_meaning_is_refused(http: httpx.Client, body: bytes) -> None:
    response = http.post("/v1/completions", content=body, headers={"content-type": "application/json"})
    assert error_of(response, 400)["code"] == "invalid_json"


def test_paths_methods_and_types(http: httpx.Client) -> None:
    for path in ("/", "/v1", "/v1/", "/v1/completions/", "//v1/models", "/docs", "/openapi.json", "/v1/embeddings"):
        error_of(http.get(path), 404 if path != "/v1/completions" else 405)
    for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "WHATEVER"):
        error_of(http.request(method, "/v1/completions"), 405)
    error_of(http.post("/v1/completions", content=b"{}", headers={"content-type": "text/plain"}), 415)
    error_of(http.post("/v1/completions", content=b"{}"), 415)
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    error_of(http.post("/v1/completions", content=b"{}", headers=headers), 415)
    error_of(http.post("/v1/completions", json={**TEXT, "model": "gpt-4"}), 404)
    error_of(http.get("/v1/models/gpt-4"), 404)
    error_of(http.get("/v1/models", headers={"host": "evil.example"}), 421)
    assert "access-control-allow-origin" not in http.get("/v1/models", headers={"origin": "http://evil"}).headers


def test_models(client: openai.OpenAI, http: httpx.Client) -> None:
    assert [model.id for model in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").owned_by == "rhapsode"
    assert http.get("/health").json() == {"status": "ok", "model": "tiny", "open": 0, "running": 0}
    assert http.get("/livez").status_code == http.get("/readyz").status_code == 200


def test_a_body_that_is_too_large_is_refused_however_it_comes(http: httpx.Client) -> None:
    large = b'{"model": "tiny", "prompt": "' + b"x" * 2**21 + b'"}'
    headers = {"content-type": "application/json"}
    error_of(http.post("/v1/completions", content=large, headers=headers), 413)
