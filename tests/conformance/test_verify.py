"""`rhapsode verify`: what a person types, what it says, and its exit code."""

import json
import shutil
from pathlib import Path

import pytest
from tests.conformance import faults
from tests.conformance.conftest import altered, save_model
from tests.conformance.fake_server import FakeServer, serving

from rhapsode.cli.app import run
from rhapsode.conformance.evidence import FOLDER
from rhapsode.core.manifest import MANIFEST
from rhapsode.text.tokenizer import Tokenizer

Captured = pytest.CaptureFixture[str]


def test_a_model_that_holds_is_shown_check_by_check(model_dir: Path, capsys: Captured) -> None:
    assert run(["verify", str(model_dir)]) == 0
    shown = capsys.readouterr().out
    lines = [line.split() for line in shown.splitlines()]
    assert "all 9 are what the manifest says" in shown
    assert ["texts", "to", "ids", "holds", "17", "of", "17"] in lines
    assert ["conversations", "to", "ids", "holds", "4", "of", "4"] in lines
    assert "largest difference" in shown
    assert "may be 0.0005" in shown


def test_the_same_as_json(model_dir: Path, capsys: Captured) -> None:
    assert run(["verify", str(model_dir), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["model"] == str(model_dir)
    assert [(report["reader"], report["holds"]) for report in result["reports"]] == [("rhapsode", True)]
    assert [check["verdict"] for check in result["reports"][0]["checks"]] == ["holds"] * 6


def test_a_flipped_bit_is_found_in_its_file(model_dir: Path, tmp_path: Path, capsys: Captured) -> None:
    shutil.copytree(model_dir, tmp_path / "model")
    faults.flip_a_bit(tmp_path / "model", bit=0)
    assert run(["verify", str(tmp_path / "model")]) == 5
    assert "model.safetensors has changed since it was written" in capsys.readouterr().err


def test_with_a_manifest_to_match_the_scores_find_it(model_dir: Path, tmp_path: Path, capsys: Captured) -> None:
    directory = altered(model_dir, tmp_path / "model", faults.flip_a_bit)
    assert run(["verify", str(directory)]) == 5
    said = capsys.readouterr()
    assert "scores of last positions  differs" in said.out
    assert f"rhapsode does not read {directory} as its evidence says: weights" in said.err
    assert "hint:" in said.err


def test_scores_that_are_no_numbers_are_json_all_the_same(model_dir: Path, tmp_path: Path, capsys: Captured) -> None:
    directory = altered(model_dir, tmp_path / "model", faults.blow_up)
    assert run(["verify", str(directory), "--json"]) == 5
    result, error = map(json.loads, capsys.readouterr().out.splitlines())
    (figure,) = [check["figure"] for check in result["reports"][0]["checks"] if check["figure"]]
    assert figure == {"name": "largest difference", "value": None, "bound": 5e-4}
    assert error["error"]["exit_code"] == 5


def test_another_reader_is_asked_too(model_dir: Path, capsys: Captured) -> None:
    assert run(["verify", str(model_dir), "--against", "transformers", "--json"]) == 0
    reports = json.loads(capsys.readouterr().out)["reports"]
    assert [report["reader"] for report in reports] == ["rhapsode", "transformers"]


def test_a_server_that_begins_twice_is_named(model_dir: Path, capsys: Captured) -> None:
    with serving(FakeServer(model_dir, chats_begin_twice=True)) as url:
        assert run(["verify", str(model_dir), "--against", url]) == 5
    said = capsys.readouterr()
    assert "In rhapsode" in said.out
    assert f"In fake at {url}" in said.out
    assert f"fake at {url} does not read {model_dir} as its evidence says: double BOS" in said.err
    assert "not compared: a server does not name them" in said.out


def test_a_model_without_evidence_has_its_files_checked_and_no_more(
    tokenizer: Tokenizer, tmp_path: Path, capsys: Captured
) -> None:
    directory = save_model(tmp_path / "old", tokenizer, with_evidence=False)
    assert run(["verify", str(directory)]) == 1
    said = capsys.readouterr().err
    assert "carries no evidence" in said
    assert "its files are what the manifest says" in said


def test_evidence_that_was_added_later_proves_nothing(
    model_dir: Path, tokenizer: Tokenizer, tmp_path: Path, capsys: Captured
) -> None:
    directory = save_model(tmp_path / "old", tokenizer, with_evidence=False)
    shutil.copytree(model_dir / FOLDER, directory / FOLDER)
    assert run(["verify", str(directory)]) == 5
    assert "was added after the model was written" in capsys.readouterr().err


def test_evidence_that_is_damaged_is_an_error(model_dir: Path, tmp_path: Path, capsys: Captured) -> None:
    def spoil(directory: Path) -> None:
        (directory / FOLDER / "vectors.json").write_text("{}")

    assert run(["verify", str(altered(model_dir, tmp_path / "model", spoil))]) == 1
    assert "vectors.json: longest: Field required" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("against", "says"),
    [
        ("no-such.gguf", "does not exist"),
        ("vllm", "is no reader"),
    ],
)
def test_a_reader_that_is_none_is_a_mistake_in_the_command(
    against: str, says: str, model_dir: Path, capsys: Captured
) -> None:
    assert run(["verify", str(model_dir), "--against", against]) == 2
    assert says in capsys.readouterr().err


def test_a_directory_that_is_not_complete_is_refused(model_dir: Path, tmp_path: Path, capsys: Captured) -> None:
    shutil.copytree(model_dir, tmp_path / "model")
    (tmp_path / "model" / MANIFEST).unlink()
    assert run(["verify", str(tmp_path / "model")]) == 1
    assert "manifest" in capsys.readouterr().err
