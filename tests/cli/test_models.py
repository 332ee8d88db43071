"""`rhapsode models`, and names where other verbs take paths."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from tests.catalogue.hub_server import HubServer, Repository
from tests.conftest import make_decoder, make_spec

from rhapsode.catalogue import store
from rhapsode.catalogue.models import CATALOGUE
from rhapsode.cli import models as cli_models
from rhapsode.cli.app import run
from rhapsode.cli.models import ask_person, find_model
from rhapsode.core.errors import RhapsodeError
from rhapsode.core.machine import Figures, examine, keep, kept
from rhapsode.core.manifest import writing
from rhapsode.text.tokenizer import Tokenizer
from rhapsode.weights.directory import write_model


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own, on a machine that was measured before."""
    place = tmp_path / "home"
    monkeypatch.setenv("RHAPSODE_HOME", str(place))
    monkeypatch.delenv("RHAPSODE_ACCEPT_LICENCES", raising=False)
    keep(Figures(20e9, 200e9, 800e9), examine(place))
    return place


@pytest.fixture
def foreign(tokenizer: Tokenizer, tokenizer_dir: Path, tmp_path: Path) -> Path:
    path = tmp_path / "sailor"
    path.mkdir()
    model = make_decoder(make_spec(vocab_size=tokenizer.vocab_size, context=128))
    write_model(path, spec=model.spec, weights=list(model.named_parameters()), tokenizer_dir=tokenizer_dir, stops=(1,))
    return path


def put(name: str, **facts: str) -> Path:
    path = store.models_dir() / name
    with writing(path, kind=store.KIND, facts=facts) as work:
        (work.path / "config.json").write_text("{}", encoding="utf-8")
    return path


def test_the_list_shows_every_model_and_marks_those_that_are_here(capsys):
    put("gemma-3-270m", source="index:x")
    put("my-own", source="local:sailor")
    assert run(["models"]) == 0
    shown = capsys.readouterr().out
    lines = shown.splitlines()
    assert all(
        any(entry.name.removesuffix("-it").removesuffix("-base") in line for line in lines)
        for entry in CATALOGUE.values()
    )
    (row,) = [line for line in lines if "gemma-3-270m" in line]
    assert row.startswith("●")
    assert "gemma " in row
    assert "268m" in row
    assert any("my-own" in line and "local:sailor" in line for line in lines)
    assert max(map(len, lines)) <= 120


def test_the_list_is_for_programs_too(capsys):
    assert run(["models", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [model["name"] for model in found["models"]] == list(CATALOGUE)
    first = next(model for model in found["models"] if model["name"] == "gemma-3-270m")
    assert first["licence"]["id"] == "gemma"
    assert first["fit"]["chat"]["memory"] > 4 * first["parameters"]
    assert found["here"] == []


def test_a_task_gets_one_recommendation_with_its_reason(capsys):
    assert run(["models", "--task", "Support chat", "--json"]) == 0
    advice = json.loads(capsys.readouterr().out)["recommendation"]
    assert advice["name"] in CATALOGUE
    assert "tokens/s" in advice["because"]
    assert run(["models", "--task", "Support chat"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"for support chat: {advice['name']}\n")
    assert f"rhapsode models pull {advice['name']}" in shown
    assert run(["models", "--task", "painting"]) == 2
    assert "support chat" in capsys.readouterr().err


def test_one_model_is_shown_on_a_page(capsys):
    assert run(["models", "show", "gemma-3-270m"]) == 0
    shown = capsys.readouterr().out
    for words in ("google/gemma-3-270m", "Gemma Terms of Use", "268,098,176", "rhapsode models pull gemma-3-270m"):
        assert words in shown
    assert run(["models", "show", "gemma-3-270n"]) == 1
    assert "did you mean gemma-3-270m" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["models"], ["models", "--json"], ["models", "show", "gpt2"], ["models", "--help"]]
)
def test_a_measured_machine_needs_no_torch(arguments):
    script = f"""
import sys
from rhapsode.cli.app import run
code = run({arguments!r})
print("loaded:", [name for name in ("torch", "transformers") if name in sys.modules], code, file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "loaded: [] 0"


def test_a_machine_that_was_never_measured_is_measured_once_and_told(home, capsys):
    (home / "machine.json").unlink()
    assert run(["models", "show", "gpt2"]) == 0
    assert "Measuring this machine once" in capsys.readouterr().err
    assert run(["models", "show", "gpt2"]) == 0
    assert capsys.readouterr().err == ""


def test_a_pulled_directory_can_be_talked_to_by_its_name_and_removed(foreign, capsys):
    assert run(["models", "pull", str(foreign), "--json"]) == 0
    pulled = json.loads(capsys.readouterr().out)
    assert pulled["name"] == "sailor"
    assert run(["chat", "sailor", "--complete", "--prompt", "the ship", "--max-tokens", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["prompt"] == "the ship"
    assert run(["models", "rm", "sailor"]) == 0
    assert not Path(pulled["path"]).exists()
    assert run(["models", "rm", "sailor"]) == 1


@pytest.mark.parametrize("arguments", [["rm", "../models"], ["pull", "{foreign}", "--name", "../out"], ["rm", "/"]])
def test_names_never_lead_out_of_the_store(foreign, home, capsys, arguments):
    (home / "models").mkdir()
    assert run(["models", *(argument.format(foreign=foreign) for argument in arguments)]) == 2
    assert "cannot be the name of a model" in capsys.readouterr().err
    assert (home / "models").is_dir()
    assert not (home / "out").exists()


def test_models_are_found_by_path_and_by_name(foreign):
    path = put("sailor", source="hub:sea/sailor")
    assert find_model(path) == find_model(Path("sailor")) == find_model(Path("sea/sailor")) == path


def test_what_was_never_checked_names_the_command_that_checks_it(foreign, tmp_path):
    with pytest.raises(RhapsodeError, match="without manifest.json: it was never checked") as failure:
        find_model(foreign)
    assert failure.value.hint == f"rhapsode models pull {foreign}"
    file = tmp_path / "some.gguf"
    file.write_bytes(b"GGUF")
    with pytest.raises(RhapsodeError, match="is a GGUF file") as failure:
        find_model(file)
    assert failure.value.hint == f"rhapsode models pull {file}"


def test_a_name_that_nobody_knows_is_guessed_or_explained(tmp_path):
    with pytest.raises(RhapsodeError, match="neither a path nor the name") as failure:
        find_model(Path("gema-3-270m"))
    assert "did you mean gemma-3-270m" in failure.value.hint
    with pytest.raises(RhapsodeError) as failure:
        find_model(Path("sea/nobody"))
    assert "rhapsode models pull sea/nobody" in failure.value.hint
    with pytest.raises(RhapsodeError, match="holds no model"):
        find_model(tmp_path)


def test_a_name_of_the_catalogue_is_pulled_when_it_is_used(monkeypatch):
    asked = []

    def pull(what, *, name, accept, events):
        asked.append(what)
        raise RhapsodeError("stop here")

    monkeypatch.setattr("rhapsode.catalogue.pull.pull", pull)
    for name in ("gemma-3-270m", "google/gemma-3-270m"):
        with pytest.raises(RhapsodeError, match="stop here"):
            find_model(Path(name))
    assert asked == ["gemma-3-270m"] * 2


@pytest.mark.parametrize(("typed", "accepted"), [("gemma\n", True), ("Gemma\n", True), ("y\n", False), ("", False)])
def test_a_person_accepts_by_typing_the_name(monkeypatch, capsys, typed, accepted):
    from io import StringIO

    from rhapsode.catalogue.licences import LICENCES, Terms

    monkeypatch.setattr(cli_models.sys, "stdin", StringIO(typed))
    assert ask_person(Terms(LICENCES["gemma"], b"", "/the/text")) is accepted
    shown = capsys.readouterr().err
    assert shown == "Type gemma to accept this licence: "


def test_the_doctor_keeps_what_it_measures_and_shows_what_is_here(home, capsys):
    (home / "machine.json").unlink()
    put("sailor")
    assert run(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    figures = kept(examine(home))
    assert figures is not None
    assert figures.bandwidth == found["bandwidth"] > 1e8
    assert found["models"] == ["sailor"]
    assert run(["doctor"]) == 0
    assert "GB/s from memory" in capsys.readouterr().out


def test_at_a_terminal_a_person_is_asked_and_the_pull_goes_on(foreign, home):
    """A real terminal: the licence is shown, its name is typed, and the model comes."""
    files = {path.name: path.read_bytes() for path in foreign.iterdir()}
    with HubServer() as hub:
        hub.repositories["sea/sailor"] = Repository(files, card={"license": "gemma"})
        leader, follower = pty.openpty()
        environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(home / "hf"), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "rhapsode", "models", "pull", "sea/sailor"]
        with subprocess.Popen(command, stdin=follower, stdout=follower, stderr=follower, env=environment) as process:
            os.close(follower)
            shown = read_until(leader, "to accept this licence: ")
            assert "Gemma Terms of Use" in shown
            os.write(leader, b"gemma\n")
            shown = read_until(leader, "rhapsode chat sailor")
            process.wait()
        os.close(leader)
    assert process.returncode == 0
    assert store.find("sailor") is not None


def read_until(terminal: int, words: str) -> str:
    shown = ""
    while words not in shown:
        shown += os.read(terminal, 4096).decode(errors="replace")
    return shown
