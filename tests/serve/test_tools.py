"""Tools over HTTP with OpenAI's own client: offered, called, answered, and what cannot be promised is refused."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from tests.conftest import make_spec
from tests.serve.caller import CITIES, TOOL, caller
from tests.serve.conftest import start

from rhapsode.core.manifest import writing
from rhapsode.model.decoder import Decoder
from rhapsode.model.initialise import initialise
from rhapsode.text.tokenizer import Tokenizer
from rhapsode.weights.directory import write_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return caller(tmp_path_factory.mktemp("caller"))


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    process, url = start(folder / "tiny")
    yield url
    process.terminate()
    process.communicate(timeout=60)


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=address, api_key="none", max_retries=0, timeout=120) as client:
        yield client


def user(city: str, *, end: str = "?") -> list[Any]:
    return [{"role": "user", "content": f"How is {city}{end}"}]


ASKED: dict[str, Any] = {"model": "tiny", "tools": [TOOL], "temperature": 0, "max_tokens": 120}


@pytest.mark.parametrize("city", CITIES)
def test_a_tool_is_called_and_its_result_is_told(client: openai.OpenAI, city: str) -> None:
    messages = user(city)
    choice = client.chat.completions.create(messages=messages, **ASKED).choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content == "Let me look."
    assert choice.message.tool_calls is not None
    [call] = choice.message.tool_calls
    assert (call.type, call.function.name, json.loads(call.function.arguments)) == (
        "function",
        "weather",
        {"city": city},
    )
    messages += [choice.message, {"role": "tool", "content": CITIES[city], "tool_call_id": call.id}]
    last = client.chat.completions.create(messages=messages, **ASKED).choices[0]
    assert (last.message.content, last.message.tool_calls, last.finish_reason) == (CITIES[city], None, "stop")


def test_a_stream_gives_words_as_they_come_and_a_call_whole(client: openai.OpenAI) -> None:
    words, calls, reasons = "", [], []
    for chunk in client.chat.completions.create(messages=user("Rome"), stream=True, logprobs=True, **ASKED):
        delta = chunk.choices[0].delta
        words += delta.content or ""
        calls += delta.tool_calls or []
        reasons.append(chunk.choices[0].finish_reason)
    assert words == "Let me look."
    assert [(call.index, call.function.name, call.function.arguments) for call in calls] == [
        (0, "weather", '{"city": "Rome"}')
    ]
    assert reasons[-1] == "tool_calls"


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
def test_a_call_that_must_come_comes(client: openai.OpenAI, choice: Any) -> None:
    made = client.chat.completions.create(messages=user("Paris", end="!"), tool_choice=choice, **ASKED).choices[0]
    assert made.message.content is None
    assert made.message.tool_calls is not None
    [call] = made.message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "Paris"})
    assert made.finish_reason == "tool_calls"
    # where the model would have begun with words, it cannot; how it goes on is its own
    other = client.chat.completions.create(messages=user("Paris"), tool_choice=choice, **ASKED).choices[0].message
    assert other.tool_calls or (other.content or "").startswith('<tool_call>\n{"name": "weather", "arguments":')


def test_no_call_is_read_where_none_may_come(client: openai.OpenAI) -> None:
    asked = {**ASKED, "tool_choice": "none"}
    plain = client.chat.completions.create(messages=user("Paris"), **{**ASKED, "tools": []}).choices[0].message
    made = client.chat.completions.create(messages=user("Paris"), **asked).choices[0].message
    assert made.tool_calls is None
    assert made.content == plain.content


def test_a_call_that_is_cut_is_text(client: openai.OpenAI) -> None:
    made = client.chat.completions.create(messages=user("Paris"), **{**ASKED, "stop": "Paris"}).choices[0]
    assert made.message.tool_calls is None
    assert made.message.content is not None
    assert made.message.content.startswith('Let me look.\n<tool_call>\n{"name"')
    assert made.finish_reason == "stop"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tools", [TOOL, TOOL]),
        ("tools", [TOOL] * 129),
        ("tools", [{**TOOL, "function": {**TOOL["function"], "strict": True}}]),
        ("tools", [{"type": "function", "function": {"name": "two words"}}]),
        ("tools", [{"type": "retrieval"}]),
        ("tool_choice", "always"),
        ("tool_choice", {"type": "function", "function": {"name": "other"}}),
        ("tools", "weather"),
    ],
)
def test_what_cannot_be_offered_is_refused_by_name(address: str, field: str, value: Any) -> None:
    body = {**ASKED, "messages": user("Rome"), field: value}
    answer = httpx.post(f"{address}/chat/completions", json=body, timeout=60)
    assert answer.status_code == 400
    assert field in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    "message",
    [
        {"role": "tool", "content": "rain"},
        {"role": "tool", "content": "rain", "tool_call_id": "x"},
        {"role": "user", "content": "x", "tool_call_id": "x"},
        {
            "role": "user",
            "content": "x",
            "tool_calls": [{"id": "x", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
        },
        {
            "role": "assistant",
            "tool_calls": [{"id": "x", "type": "function", "function": {"name": "f", "arguments": "[]"}}],
        },
        {"role": "assistant", "content": None, "tool_calls": []},
    ],
)
def test_a_message_about_tools_that_is_none_is_refused(address: str, message: dict[str, Any]) -> None:
    body = {**ASKED, "messages": [*user("Rome"), message]}
    answer = httpx.post(f"{address}/chat/completions", json=body, timeout=60)
    assert answer.status_code == 400
    assert "messages[1]" in answer.json()["error"]["message"]


def test_a_template_whose_calls_nobody_here_reads_is_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "tokenizer", tmp_path / "tokenizer")
    config = json.loads((tmp_path / "tokenizer" / "tokenizer_config.json").read_text())
    config["chat_template"] = config["chat_template"].replace("tool_call>", "function_call>")
    (tmp_path / "tokenizer" / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "tokenizer" / "chat_template.jinja").write_text(config["chat_template"])
    model = taught_nothing(Tokenizer.load(tmp_path / "tokenizer"))
    with writing(tmp_path / "tiny", kind="model") as work:
        weights = [(name, value.detach()) for name, value in model.named_parameters()]
        write_model(work.path, spec=model.spec, weights=weights, tokenizer_dir=tmp_path / "tokenizer", stops=(1,))
    process, url = start(tmp_path / "tiny")
    try:
        answer = httpx.post(f"{url}/chat/completions", json={**ASKED, "messages": user("Rome")}, timeout=60)
    finally:
        process.terminate()
        process.communicate(timeout=60)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "tools"
    assert "not read here" in answer.json()["error"]["message"]


def taught_nothing(tokenizer: Tokenizer) -> Decoder:
    model = Decoder(make_spec(vocab_size=tokenizer.vocab_size, context=256))
    initialise(model, seed=0)
    return model
