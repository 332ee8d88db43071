import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tests.conftest import make_decoder, make_spec
from tests.weights.conftest import flip_a_bit, save_step

from rhapsode.core.errors import RhapsodeError
from rhapsode.core.events import Event, Events
from rhapsode.core.manifest import verify
from rhapsode.model.decoder import Decoder
from rhapsode.weights.checkpoint import load_checkpoint, newest_checkpoint, read_state
from rhapsode.weights.directory import load_model
from rhapsode.weights.names import checkpoints
from rhapsode.weights.retention import remove_old


@pytest.fixture
def model() -> Decoder:
    return make_decoder(make_spec())


def names(run_dir: Path) -> list[str]:
    return sorted(path.name for path in run_dir.iterdir())


def newest(run_dir: Path) -> tuple[Path | None, list[Event]]:
    heard: list[Event] = []
    return newest_checkpoint(run_dir, events=Events(heard.append)), heard


def test_a_checkpoint_gives_back_every_bit(model: Decoder, tokenizer_dir: Path, tmp_path: Path) -> None:
    path = save_step(tmp_path, model, tokenizer_dir, step=7)
    weights = {name: torch.empty_like(value) for name, value in model.named_parameters()}
    state, optimizer = load_checkpoint(path, spec=model.spec, weights=weights)
    assert (state.step, state.tokens, state.skipped, state.plan) == (7, 700, 1, "p" * 64)
    assert read_state(path) == state
    for name, value in model.named_parameters():
        assert torch.equal(weights[name], value)
        assert torch.equal(optimizer[f"moment/{name}"], torch.full_like(value, 7))


def test_a_checkpoint_is_a_model_with_its_evidence(model: Decoder, tokenizer_dir: Path, tmp_path: Path) -> None:
    path = save_step(tmp_path, model, tokenizer_dir, step=7)
    assert path.name == "step-000007"
    assert torch.equal(load_model(path).norm.weight, model.norm.weight)
    manifest = verify(path)
    assert manifest.kind == "model"
    assert (manifest.inputs, manifest.recipe) == ({"tokens": "t" * 64}, {"train": {"seed": 0}})
    assert {"README.md", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json"} < set(
        manifest.files
    )
    assert {"training/optimizer.safetensors", "training/state.json"} < set(manifest.files)


@pytest.mark.parametrize("name", ["model.safetensors", "training/optimizer.safetensors", "config.json"])
def test_a_damaged_checkpoint_is_passed_over_aloud(
    name: str, model: Decoder, tokenizer_dir: Path, tmp_path: Path
) -> None:
    for step in (5, 10, 15):
        save_step(tmp_path, model, tokenizer_dir, step=step)
    assert newest(tmp_path) == (tmp_path / "step-000015", [])
    flip_a_bit(tmp_path / "step-000015" / name)
    path, heard = newest(tmp_path)
    assert path == tmp_path / "step-000010"
    assert [(event.kind, event.fields["path"]) for event in heard] == [("damaged", str(tmp_path / "step-000015"))]
    assert Path(name).name in heard[0].fields["reason"]


def test_a_torn_manifest_is_a_damaged_checkpoint(model: Decoder, tokenizer_dir: Path, tmp_path: Path) -> None:
    first, second = (save_step(tmp_path, model, tokenizer_dir, step=step) for step in (5, 10))
    (second / "manifest.json").write_bytes((second / "manifest.json").read_bytes()[:-10])
    path, heard = newest(tmp_path)
    assert path == first
    assert "manifest.json is damaged" in heard[0].fields["reason"]


def test_nothing_intact_is_nothing(model: Decoder, tokenizer_dir: Path, tmp_path: Path) -> None:
    assert newest(tmp_path) == (None, [])
    shutil.rmtree(save_step(tmp_path, model, tokenizer_dir, step=5) / "training")
    path, heard = newest(tmp_path)
    assert path is None
    assert len(heard) == 1


def test_checkpoints_are_counted_by_number_and_incomplete_ones_do_not_exist(
    model: Decoder, tokenizer_dir: Path, tmp_path: Path
) -> None:
    for step in (999_999, 1_000_000, 5):
        save_step(tmp_path, model, tokenizer_dir, step=step)
    (tmp_path / "step-000007").mkdir()
    (tmp_path / "step-last").mkdir()
    assert [path.name for path in checkpoints(tmp_path)] == ["step-000005", "step-999999", "step-1000000"]


def test_only_the_newest_are_kept(model: Decoder, tokenizer_dir: Path, tmp_path: Path) -> None:
    for step in (5, 10, 15):
        save_step(tmp_path, model, tokenizer_dir, step=step)
    remove_old(tmp_path, keep=2, newest=15)
    assert names(tmp_path) == ["step-000010", "step-000015"]


def test_damaged_ones_that_are_newer_do_not_push_out_what_was_just_saved(
    model: Decoder, tokenizer_dir: Path, tmp_path: Path
) -> None:
    for step in (5, 10, 15, 20):
        save_step(tmp_path, model, tokenizer_dir, step=step)
    remove_old(tmp_path, keep=1, newest=10)
    assert names(tmp_path) == ["step-000010", "step-000015", "step-000020"]


def test_a_removal_that_was_cut_short_never_leaves_half_a_checkpoint(
    model: Decoder, tokenizer_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (5, 10):
        save_step(tmp_path, model, tokenizer_dir, step=step)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda path, **_: (path / "model.safetensors").unlink(missing_ok=True))
        remove_old(tmp_path, keep=1, newest=10)
    for path in checkpoints(tmp_path):
        verify(path)
    remove_old(tmp_path, keep=1, newest=10)
    assert names(tmp_path) == ["step-000010"]


def test_what_dead_processes_left_is_removed_and_what_living_ones_write_is_kept(
    model: Decoder, tokenizer_dir: Path, tmp_path: Path
) -> None:
    save_step(tmp_path, model, tokenizer_dir, step=5)
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    for owner in (process.pid, os.getppid()):
        for kind in ("partial", "old"):
            (tmp_path / f".step-000010.{owner}.{kind}").mkdir()
    remove_old(tmp_path, keep=2, newest=5)
    living = [f".step-000010.{os.getppid()}.{kind}" for kind in ("old", "partial")]
    assert names(tmp_path) == [*living, "step-000005"]


def test_a_full_disk_leaves_earlier_checkpoints_and_no_half_one(
    model: Decoder, tokenizer_dir: Path, small_disk: Path
) -> None:
    saved = 0
    with pytest.raises(RhapsodeError, match="disk is full") as caught:  # noqa: PT012  the number that fits is not the point
        for step in range(1, 100):
            save_step(small_disk, model, tokenizer_dir, step=step)
            saved = step
    assert saved >= 1
    assert f"step-{saved + 1:06d}" in caught.value.message
    assert names(small_disk) == [f"step-{step:06d}" for step in range(1, saved + 1)]
    for path in checkpoints(small_disk):
        verify(path)


@pytest.mark.parametrize("kilobytes", [20, 80, 150])
def test_a_disk_that_fills_up_at_any_file_is_told_as_such(
    kilobytes: int, model: Decoder, tokenizer_dir: Path, small_disk: Path
) -> None:
    (small_disk / "run").mkdir()
    (small_disk / "ballast").write_bytes(b"x" * ((1 << 20) - (kilobytes << 10)))
    with pytest.raises(RhapsodeError, match="disk is full"):
        save_step(small_disk / "run", model, tokenizer_dir, step=1)
    assert list((small_disk / "run").iterdir()) == []
