"""`rhapsode export`, as a person or a script calls it."""

import json
from pathlib import Path

import pytest
import torch
from tests.export.conftest import FAMILIES, grow, make_model
from tests.export.test_export import left_in
from tests.model.conftest import dense_logits
from tests.weights.conftest import rewrite

from rhapsode.cli.app import run
from rhapsode.conformance.readers.llamacpp import is_installed
from rhapsode.core.manifest import digest, read_manifest, verify
from rhapsode.weights.directory import load_model
from rhapsode.weights.shards import Weights


def test_a_script_gets_every_figure(llama_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", str(llama_dir), "--unverified", "--out", str(tmp_path), "--json"]) == 0
    [line] = capsys.readouterr().out.splitlines()
    found = json.loads(line)
    path = tmp_path / "llama-130K-Q8_0-unverified.gguf"
    assert found["path"] == str(path)
    assert found["encoding"] == "Q8_0"
    assert found["bytes"] == path.stat().st_size
    assert 8.5 < found["bits_per_weight"] < 10
    assert 0 < found["largest_error"] < 0.01
    assert found["verified"] is None


def test_a_person_reads_what_nobody_has_proven(
    llama_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["export", str(llama_dir), "--unverified", "--encoding", "f16", "--out", str(tmp_path / "x.gguf")]) == 0
    text = capsys.readouterr().out
    assert str(tmp_path / "x-unverified.gguf") in text
    assert "nobody has proven" in text
    assert left_in(tmp_path) == ["x-unverified.gguf"]


def test_an_unknown_encoding_is_an_error_with_a_hint(
    llama_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["export", str(llama_dir), "--unverified", "--encoding", "q4_k_m", "--out", str(tmp_path)]) == 1
    assert "q8_0" in capsys.readouterr().err
    assert left_in(tmp_path) == []


def test_an_unknown_format_is_a_wrong_usage(llama_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", str(llama_dir), "--format", "onnx"]) == 2
    assert "onnx" in capsys.readouterr().err


@pytest.mark.parametrize(("encoding", "dtype"), [("bf16", torch.bfloat16), ("f16", torch.float16)])
def test_a_directory_in_another_type_of_number(
    encoding: str, dtype: torch.dtype, llama_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["export", str(llama_dir), "--format", "safetensors", "--encoding", encoding, "--out", str(tmp_path)]
    assert run([*arguments, "--json"]) == 0
    path = Path(json.loads(capsys.readouterr().out)["path"])
    assert path == tmp_path / f"llama-{encoding}"
    verify(path)
    manifest = read_manifest(path)
    assert manifest.inputs == {"model": digest(llama_dir)}
    assert manifest.facts == read_manifest(llama_dir).facts
    assert {"README.md", "LICENSE", "conformance/vectors.json"} <= manifest.files.keys()
    with Weights(path) as weights:
        assert {entry.dtype for entry in weights.tensors.values()} == {dtype}
    ids = torch.arange(3, 30)[None]
    torch.testing.assert_close(
        dense_logits(load_model(path), ids), dense_logits(load_model(llama_dir), ids), rtol=0, atol=0.5
    )


def test_numbers_without_room_leave_no_directory(
    words_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = rewrite(make_model(tmp_path / "model", FAMILIES["llama"], words_dir), grow)
    out = tmp_path / "out"
    assert run(["export", str(model), "--format", "safetensors", "--encoding", "f16", "--out", str(out)]) == 1
    assert "for which float16 has no room" in capsys.readouterr().err
    assert left_in(out) == []


@pytest.mark.peers
@pytest.mark.skipif(not is_installed(), reason="llama-cpp-python is not installed")
def test_what_was_proven_is_told(llama_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", str(llama_dir), "--out", str(tmp_path)]) == 0
    captured = capsys.readouterr()
    assert "the same for 2,000 strings" in captured.out
    assert "llama_" not in captured.err  # llama.cpp itself stays silent
    assert run(["export", str(llama_dir), "--encoding", "f32", "--out", str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["verified"]
    assert found["strings"] == 2000
    assert found["distance"]["median"] < 1e-6
    assert found["cost"]["agreement"] == 1.0
