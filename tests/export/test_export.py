"""A file gets its name when it is whole and proven, and never otherwise."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.export.conftest import FAMILIES, export, grow, make_model
from tests.weights.conftest import flip_a_bit, rewrite

from rhapsode.core.errors import RhapsodeError, VerificationMismatch
from rhapsode.export.gguf import export as export_module
from rhapsode.export.gguf.read_back import Farthest

KILLED = """
import os, signal, sys
from pathlib import Path
from rhapsode.core.events import Events
from rhapsode.export.gguf.export import export_gguf

def hear(event):
    if event.kind == "progress" and event.fields["stage"] == "write" and event.fields["done"] == event.fields["total"]:
        os.kill(os.getpid(), signal.SIGKILL)

export_gguf(Path(sys.argv[1]), Path(sys.argv[2]), name="m", encoding="f16", verified=False, events=Events(hear))
"""


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*")) if folder.exists() else []


@pytest.mark.parametrize(
    ("out", "expected"),
    [
        ("folder", "folder/homer-5M-F16-unverified.gguf"),
        ("folder/x.gguf", "folder/x-unverified.gguf"),
        ("x-unverified.gguf", "x-unverified.gguf"),
        ("v1.5", "v1.5/homer-5M-F16-unverified.gguf"),
    ],
)
def test_a_file_that_nobody_proved_says_so_in_its_name(
    out: str, expected: str, llama_dir: Path, tmp_path: Path
) -> None:
    found = export(llama_dir, tmp_path / out, encoding="f16", name="homer-5M")
    assert found.path == tmp_path / expected
    assert found.proof is None
    assert found.bytes == found.path.stat().st_size
    assert left_in(found.path.parent) == [found.path.name]


def test_a_second_export_replaces_the_first(llama_dir: Path, tmp_path: Path) -> None:
    found = export(llama_dir, tmp_path, encoding="f16").path
    first = found.read_bytes()
    found.write_bytes(b"GGUF, but old")
    again = export(llama_dir, tmp_path, encoding="f16").path
    assert again.read_bytes() == first
    assert left_in(tmp_path) == [again.name]


def test_a_file_of_another_kind_is_never_replaced(llama_dir: Path, tmp_path: Path) -> None:
    precious = tmp_path / "x-unverified.gguf"
    precious.write_text("a poem")
    with pytest.raises(RhapsodeError, match="is of another kind"):
        export(llama_dir, tmp_path / "x.gguf")
    assert precious.read_text() == "a poem"
    assert left_in(tmp_path) == [precious.name]


def test_a_folder_with_the_files_name_is_not_replaced(llama_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "x-unverified.gguf").mkdir()
    with pytest.raises(RhapsodeError, match="is a folder"):
        export(llama_dir, tmp_path / "x.gguf")


@pytest.mark.parametrize("is_foreseen", [True, False])
def test_a_full_disk_leaves_nothing(
    is_foreseen: bool, llama_dir: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not is_foreseen:  # somebody else fills the disk meanwhile
        monkeypatch.setattr("rhapsode.export.gguf.writer._check_room", lambda *_: None)
    (small_disk / "ballast").write_bytes(b"x" * 900_000)
    with pytest.raises(RhapsodeError, match="the disk is full"):
        export(llama_dir, small_disk)
    assert left_in(small_disk) == ["ballast"]


def test_a_killed_export_leaves_no_file_and_the_next_one_cleans_up(llama_dir: Path, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, llama_dir, tmp_path], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not list(tmp_path.glob("*.gguf"))
    assert left_in(tmp_path)
    found = export(llama_dir, tmp_path, encoding="f16", name="m")
    assert left_in(tmp_path) == [found.path.name]


def test_a_directory_that_has_changed_is_refused(words_dir: Path, tmp_path: Path) -> None:
    model = make_model(tmp_path / "model", FAMILIES["llama"], words_dir)
    flip_a_bit(model / "model.safetensors")
    with pytest.raises(VerificationMismatch, match=r"model\.safetensors has changed"):
        export(model, tmp_path / "out")
    assert left_in(tmp_path / "out") == []


def test_numbers_without_room_are_refused_and_leave_nothing(words_dir: Path, tmp_path: Path) -> None:
    model = rewrite(make_model(tmp_path / "model", FAMILIES["llama"], words_dir, dtype=torch.bfloat16), grow)
    with pytest.raises(RhapsodeError, match=r"blk\.2\.ffn_down\.weight holds .* which F16 has no room for"):
        export(model, tmp_path / "out", encoding="f16")
    assert left_in(tmp_path / "out") == []
    assert export(model, tmp_path / "out", encoding="bf16").error < 0.01


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "mistral", "sliding_window": 9}, "window"),
        ({"model_type": "qwen3", "use_sliding_window": True, "sliding_window": 9, "max_window_layers": 1}, "window"),
    ],
)
def test_what_llama_cpp_has_no_words_for_is_refused_by_name(
    change: dict[str, object], message: str, words_dir: Path, tmp_path: Path
) -> None:
    model = make_model(tmp_path / "model", FAMILIES["llama"] | change, words_dir)
    with pytest.raises(RhapsodeError, match=message):
        export(model, tmp_path / "out")
    assert left_in(tmp_path / "out") == []


def test_a_tokenizer_that_llama_cpp_cannot_split_is_refused(words_dir: Path, tmp_path: Path) -> None:
    def respell(path: Path) -> None:
        shape = json.loads((path / "tokenizer.json").read_text())
        shape["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = r"\p{L}+|."
        (path / "tokenizer.json").write_text(json.dumps(shape))

    model = rewrite(make_model(tmp_path / "model", FAMILIES["llama"], words_dir), respell)
    with pytest.raises(RhapsodeError, match="no name for the way"):
        export(model, tmp_path / "out")
    assert left_in(tmp_path / "out") == []


def test_an_encoding_that_fits_no_tensor_is_refused(llama_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(RhapsodeError, match="no tensor of this model can be TQ1_0: rows of 64 are no multiple of 256"):
        export(llama_dir, tmp_path, encoding="tq1_0")


def test_tensors_that_cannot_be_as_asked_are_told(words_dir: Path, tmp_path: Path) -> None:
    model = make_model(tmp_path / "model", FAMILIES["gpt2"] | {"n_inner": 80}, words_dir)
    found = export(model, tmp_path, encoding="q4_0")
    assert found.fallbacks == {
        "F16: rows of 80 are no multiple of 32": [f"blk.{layer}.ffn_down.weight" for layer in range(3)]
    }


def test_a_tensor_that_is_not_what_was_written_is_named(
    llama_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rhapsode.export.gguf.proof.farthest", lambda *_: Farthest("blk.1.attn_q.weight", 1.4))
    with pytest.raises(VerificationMismatch, match=r"blk\.1\.attn_q\.weight in the file is not the tensor"):
        export(llama_dir, tmp_path)
    assert left_in(tmp_path) == []


def test_without_llama_cpp_nothing_is_written_and_both_ways_out_are_told(
    llama_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_module, "is_installed", lambda: False)
    with pytest.raises(RhapsodeError, match="llama-cpp-python is not installed") as refused:
        export(llama_dir, tmp_path, verified=True)
    assert "rhapsode[peers]" in refused.value.hint
    assert "--unverified" in refused.value.hint
    assert left_in(tmp_path) == []
