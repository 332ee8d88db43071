"""A server is asked as any client would: ours, and one with the faults that others have."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from tests.conformance import faults
from tests.conformance.conftest import altered, edit_json
from tests.conformance.fake_server import FakeServer, serving

from rhapsode.conformance.against import Peer, replay_against
from rhapsode.conformance.diagnosis import Kind
from rhapsode.conformance.evidence import read_evidence
from rhapsode.conformance.report import Check, Report
from rhapsode.conformance.vectors import add_conformance
from rhapsode.core.errors import RhapsodeError

TOLD = {"tokens of texts": 17, "tokens of conversations": 4, "log-probabilities": 7, "greedy text": 7}


def replay(directory: Path, url: str, *, name: str = "fake") -> Report:
    return replay_against(directory, Peer("endpoint", url), name=name)


def in_fake(directory: Path, fake: FakeServer) -> Report:
    with serving(fake) as url:
        return replay(directory, url)


def checks(report: Report) -> dict[str, Check]:
    return {check.name: check for check in report.checks}


@pytest.fixture(scope="module")
def url(model_dir: Path) -> Iterator[str]:
    """`rhapsode serve` as it is."""
    command = [sys.executable, "-m", "rhapsode", "serve", str(model_dir), "--port", "0", "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    yield json.loads(process.stdout.readline())["url"]
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == 0


def test_our_own_server_holds(model_dir: Path, url: str) -> None:
    report = replay(model_dir, url)
    assert report.mismatches == ()
    found = checks(report)
    assert {name: found[name].compared for name in TOLD} == TOLD
    figure = found["log-probabilities"].figure
    assert figure is not None
    assert figure.value < 1e-4
    assert report.reader == f"tiny at {url}"


def test_what_a_server_does_not_show_is_said(model_dir: Path, url: str) -> None:
    report = replay(model_dir, url)
    assert checks(report)["texts to ids"].verdict == "not compared"
    assert "texts to ids: 17 of 17 not compared: this server does not show token ids" in report.notes
    assert any(note.startswith("end tokens: not compared") for note in report.notes)
    assert any(note.startswith("scores of last positions: not compared") for note in report.notes)


@pytest.mark.parametrize(
    ("fault", "kinds"),
    [
        ({}, []),
        ({"reads_special_tokens": True}, []),
        ({"chats_begin_twice": True}, ["double BOS"]),
        ({"texts_begin_twice": True}, ["double BOS"]),
        ({"texts_begin_twice": True, "has_usage": False, "tokenize_key": "content"}, ["double BOS", "greedy text"]),
        ({"trims_messages": True}, ["template"]),
    ],
)
def test_faults_of_servers_are_named(fault: dict[str, object], kinds: list[Kind], model_dir: Path) -> None:
    report = in_fake(model_dir, FakeServer(model_dir, **fault))  # type: ignore[arg-type]
    assert report.kinds == kinds


@pytest.mark.parametrize(
    ("edit", "kinds"),
    [
        (faults.change_the_rotation, ["weights", "greedy text"]),
        (faults.swap_two_merges, ["merge"]),
        (faults.change_the_template, ["template"]),
        (faults.begin_texts_never, ["no BOS"]),
    ],
)
def test_a_server_of_another_model_is_found_out(
    edit: Callable[[Path], None], kinds: list[Kind], model_dir: Path, tmp_path: Path
) -> None:
    other = altered(model_dir, tmp_path / "other", edit)
    assert in_fake(model_dir, FakeServer(other)).kinds == kinds


@pytest.mark.parametrize("key", ["content", "prompt"])
def test_ids_are_compared_where_a_server_shows_them(key: str, model_dir: Path) -> None:
    report = in_fake(model_dir, FakeServer(model_dir, tokenize_key=key))
    assert checks(report)["texts to ids"].compared == 17
    assert report.mismatches == ()


def test_a_server_that_says_less_than_it_was_asked_for_is_named(
    model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeServer(model_dir)
    said = fake._said
    monkeypatch.setattr(
        fake, "_said", lambda ids, body, *, is_chat: said(ids, {**body, "max_tokens": 1}, is_chat=is_chat)
    )
    report = in_fake(model_dir, fake)
    assert report.kinds == ["greedy text"]
    assert "and no more of" in report.mismatches[0].what


def test_an_answer_that_ends_too_soon_or_too_late_is_named(model_dir: Path, tmp_path: Path) -> None:
    evidence = read_evidence(model_dir)
    assert evidence is not None
    end = evidence.vectors.cases[0].greedy[5]
    soon = in_fake(model_dir, FakeServer(model_dir, ends_at=frozenset({1, 4, end})))
    assert soon.kinds == ["end tokens"]
    assert "where it should go on" in soon.mismatches[0].what

    def end_there(directory: Path) -> None:
        edit_json(directory / "generation_config.json", lambda value: value.update(eos_token_id=[1, 4, end]))
        add_conformance(directory)

    late = in_fake(altered(model_dir, tmp_path / "model", end_there), FakeServer(model_dir))
    assert late.kinds == ["end tokens"]
    assert "where it should end" in late.mismatches[0].what


def test_a_server_that_reads_special_tokens_in_texts_is_told_of(model_dir: Path) -> None:
    report = in_fake(model_dir, FakeServer(model_dir, reads_special_tokens=True))
    assert any("takes what users write for special tokens" in note for note in report.notes)
    assert checks(report)["tokens of texts"].compared == 16


def test_a_server_without_chats_logprobs_and_usage_is_compared_in_what_is_left(model_dir: Path) -> None:
    fake = FakeServer(model_dir, has_chats=False, has_logprobs=False, has_usage=False)
    report = in_fake(model_dir, fake)
    assert report.mismatches == ()
    found = checks(report)
    assert [found[name].compared for name in TOLD] == [0, 0, 0, 4]
    assert any("does not say how many" in note for note in report.notes)
    assert any("/v1/chat/completions is not offered" in note for note in report.notes)


def test_every_answer_is_asked_for_without_chance(model_dir: Path) -> None:
    fake = FakeServer(model_dir)
    in_fake(model_dir, fake)
    bodies = [body for path, body in fake.asked if path.endswith("completions")]
    assert len(bodies) == 21
    assert all((body["temperature"], body["model"]) == (0, "fake") for body in bodies)


@pytest.mark.parametrize("end", ["", "/", "/v1", "/v1/"])
def test_the_address_may_lack_its_end(end: str, model_dir: Path) -> None:
    with serving(FakeServer(model_dir)) as url:
        assert replay(model_dir, url.removesuffix("/v1") + end).mismatches == ()


def test_one_of_several_models_is_chosen(model_dir: Path) -> None:
    fake = FakeServer(model_dir, models=("other", "mine"))
    with serving(fake) as url:
        assert replay(model_dir, url, name="mine").reader == f"mine at {url}"
        assert replay(model_dir, f"{url}#other", name="mine").reader == f"other at {url}"
        with pytest.raises(RhapsodeError, match="its models: other, mine"):
            replay(model_dir, url, name="tiny")


def test_the_key_is_sent(model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    fake = FakeServer(model_dir, key="sesame")
    with pytest.raises(RhapsodeError, match="refuses the key") as caught:
        in_fake(model_dir, fake)
    assert "OPENAI_API_KEY" in caught.value.hint
    monkeypatch.setenv("OPENAI_API_KEY", "sesame")
    assert in_fake(model_dir, fake).mismatches == ()


def test_a_server_that_breaks_or_is_not_there_is_an_error_and_no_mismatch(model_dir: Path) -> None:
    with serving(FakeServer(model_dir)) as url:
        pass
    with pytest.raises(RhapsodeError, match="does not answer") as caught:
        replay(model_dir, url)
    assert caught.value.exit_code == 1
    with pytest.raises(RhapsodeError, match="HTTP 500"):
        in_fake(model_dir, FakeServer(model_dir, breaks=True))


def test_something_else_that_listens_there_is_an_error(model_dir: Path) -> None:
    def hang_up(listener: socket.socket) -> None:
        listener.accept()[0].close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=hang_up, args=[listener])
        thread.start()
        with pytest.raises(RhapsodeError, match="does not answer"):
            replay(model_dir, f"http://127.0.0.1:{listener.getsockname()[1]}/v1")
        thread.join()


@pytest.mark.parametrize("value", [None, [], {"data": "none"}, {"choices": []}, {"choices": [{"text": 1}]}])
def test_answers_of_another_shape_are_an_error(value: object, model_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeServer(model_dir)
    monkeypatch.setattr(fake, "_said", lambda ids, body, *, is_chat: value)
    with pytest.raises(RhapsodeError, match="does not answer as OpenAI's API does"):
        in_fake(model_dir, fake)


def test_a_redirection_is_not_followed_with_the_key(model_dir: Path) -> None:
    """It leads to another server, which has no business with it."""

    class Elsewhere(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", target)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_args: object) -> None:
            pass

    fake = FakeServer(model_dir)
    with serving(fake) as url, HTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        target = f"{url}/models"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            with pytest.raises(RhapsodeError, match="HTTP 302"):
                replay(model_dir, f"http://127.0.0.1:{server.server_port}/v1")
        finally:
            server.shutdown()
            thread.join()
    assert fake.asked == []
