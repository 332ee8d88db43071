import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from rhapsode.core.manifest import writing
from rhapsode.model.decoder import Decoder
from rhapsode.weights.checkpoint import TrainingState, save_checkpoint, whole_tensors
from rhapsode.weights.directory import describe_model, write_model
from rhapsode.weights.shard_writer import MAX_SHARD_BYTES


def save_model(path: Path, model: Decoder, tokenizer_dir: Path, *, max_shard_bytes: int = MAX_SHARD_BYTES) -> Path:
    with writing(path, kind="model") as work:
        write_model(
            work.path,
            spec=model.spec,
            weights=list(model.named_parameters()),
            tokenizer_dir=tokenizer_dir,
            stops=(4,),
            max_shard_bytes=max_shard_bytes,
        )
    return path


def save_step(run_dir: Path, model: Decoder, tokenizer_dir: Path, *, step: int) -> Path:
    """A checkpoint with one moment a weight."""
    weights = [(name, value.detach()) for name, value in model.named_parameters()]
    moments = {f"moment/{name}": torch.full_like(value, step) for name, value in weights}
    tensors = whole_tensors(spec=model.spec, weights=weights, optimizer=moments)

    def fill(directory: Path) -> None:
        dtype = tensors(directory)
        describe_model(directory, spec=model.spec, dtype=dtype, tokenizer_dir=tokenizer_dir, stops=(4,))

    return save_checkpoint(
        run_dir,
        fill=fill,
        state=TrainingState(step=step, tokens=100 * step, skipped=1, plan="p" * 64),
        card="# A model\n",
        inputs={"tokens": "t" * 64},
        recipe={"train": {"seed": 0}},
        facts={"objective": "next_token"},
    )


def rewrite(path: Path, change: Callable[[Path], object]) -> Path:
    """The same directory with a change that its manifest vouches for."""
    files = {
        str(f.relative_to(path)): f.read_bytes() for f in path.rglob("*") if f.is_file() and f.name != "manifest.json"
    }
    with writing(path, kind="model") as work:
        for name, data in files.items():
            (work.path / name).write_bytes(data)
        change(work.path)
    return path


def flip_a_bit(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "rhapsode-test", str(path)]
    try:
        made = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command here")
    if made.returncode:
        pytest.skip(f"mounting a small file system is not permitted here: {made.stderr.strip()}")
    yield path
    subprocess.run(["umount", str(path)], check=True)
