"""Tools in the terminal: the model calls, the person says what came of it, and the model goes on."""

import io
import json
from pathlib import Path

import pytest
from tests.serve.caller import TOOL, caller

from rhapsode.cli.app import run
from rhapsode.cli.verbs.chat import Speaker
from rhapsode.engine.load import load_engine
from rhapsode.engine.sampling import Sampling


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return caller(tmp_path_factory.mktemp("caller"))


def test_a_call_and_its_result_are_a_part_of_the_talk(folder: Path) -> None:
    speaker = Speaker(
        load_engine(folder / "tiny"), Sampling(max_tokens=120, temperature=0), is_chat=True, tools=(TOOL,)
    )
    assert "".join(speaker.answer("How is Rome?")).startswith("Let me look.\n<tool_call>")
    assert [(call.name, call.values) for call in speaker.calls] == [("weather", {"city": "Rome"})]
    assert "".join(speaker.go_on(["sun"])) == "sun"
    assert speaker.calls == ()


def test_calls_are_told_to_programs(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tools.json").write_text(json.dumps([TOOL["function"]]))
    asked = ["chat", str(folder / "tiny"), "--answer", "--prompt", "How is Paris?", "--temperature", "0", "--json"]
    assert run([*asked, "--tools", str(tmp_path / "tools.json")]) == 0
    [call] = json.loads(capsys.readouterr().out)["tool_calls"]
    assert (call["name"], json.loads(call["arguments"])) == ("weather", {"city": "Paris"})


def test_in_a_talk_the_person_is_asked_what_came_of_a_call(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tools.json").write_text(json.dumps([TOOL]))
    monkeypatch.setattr("sys.stdin", io.StringIO("How is Rome?\nsun\nHow is Paris?\n"))
    asked = ["chat", str(folder / "tiny"), "--answer", "--temperature", "0", "--tools", str(tmp_path / "tools.json")]
    assert run(asked) == 0
    said = capsys.readouterr()
    assert "</tool_call>\nsun\n" in said.out
    assert 'weather({"city": "Rome"}) gave:' in said.err


@pytest.mark.parametrize("text", ["{", "{}", '[{"name": ""}]', None])
def test_a_file_that_lists_no_tools_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None
) -> None:
    if text is not None:
        (tmp_path / "tools.json").write_text(text)
    arguments = ["chat", str(folder / "tiny"), "--answer", "--prompt", "x", "--tools", str(tmp_path / "tools.json")]
    assert run(arguments) == 2
    assert "tools.json" in capsys.readouterr().err
