"""llama.cpp on a GGUF file: the file of the model itself holds, that of a model with a fault does not."""

from pathlib import Path

import pytest
from tests.conformance import faults
from tests.conformance.conftest import Edit, altered

from rhapsode.cli.app import run
from rhapsode.conformance.against import Peer, replay_against
from rhapsode.conformance.diagnosis import Kind
from rhapsode.conformance.readers.llamacpp import is_installed
from rhapsode.conformance.report import Report
from rhapsode.core.events import Events
from rhapsode.export.gguf.export import export_gguf

pytestmark = [pytest.mark.peers, pytest.mark.skipif(not is_installed(), reason="llama-cpp-python is not installed")]


def write_gguf(directory: Path, folder: Path, *, encoding: str = "f32") -> Path:
    return export_gguf(directory, folder, name="tiny", encoding=encoding, verified=False, events=Events()).path


def in_llama_cpp(directory: Path, file: Path) -> Report:
    return replay_against(directory, Peer("gguf", str(file)), name="tiny")


@pytest.mark.parametrize("encoding", ["f32", "f16", "q8_0"])
def test_the_file_of_a_model_holds(encoding: str, model_dir: Path, tmp_path: Path) -> None:
    file = write_gguf(model_dir, tmp_path, encoding=encoding)
    report = in_llama_cpp(model_dir, file)
    assert report.mismatches == ()
    compared = {check.name: (check.compared, check.of) for check in report.checks}
    assert compared["texts to ids"] == (17, 17)
    assert compared["conversations to ids"] == (3, 4)
    assert compared["scores of last positions"] == (21, 21)
    assert compared["end tokens"] == (1, 1)


@pytest.mark.parametrize(
    ("edit", "kind"),
    [
        (faults.change_the_template, "template"),
        (faults.begin_texts_never, "no BOS"),
        (faults.swap_two_merges, "merge"),
        (faults.change_the_rotation, "weights"),
    ],
)
def test_the_file_of_another_model_does_not(edit: Edit, kind: Kind, model_dir: Path, tmp_path: Path) -> None:
    other = write_gguf(altered(model_dir, tmp_path / "other", edit), tmp_path)
    report = in_llama_cpp(model_dir, other)
    assert report.kinds[0] == kind
    assert set(report.kinds) <= {kind, "greedy text"}


def test_the_verb_takes_a_file(model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["verify", str(model_dir), "--against", str(write_gguf(model_dir, tmp_path))]) == 0
    assert "In llama.cpp" in capsys.readouterr().out


def test_a_file_that_is_no_model_is_a_mismatch(
    model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + bytes(100))
    assert run(["verify", str(model_dir), "--against", str(tmp_path / "bad.gguf")]) == 5
    assert "llama.cpp cannot load bad.gguf" in capsys.readouterr().err


def test_the_verb_writes_the_file_itself_and_removes_it(
    model_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert run(["verify", str(model_dir), "--against", "llama.cpp"]) == 0
    assert "In llama.cpp" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
