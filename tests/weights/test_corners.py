"""Tensors that are written in pieces, by one process or by several."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from rhapsode.weights.header import Slot
from rhapsode.weights.safetensors import TensorFile, TensorJoiner, TensorWriter, plan_file, write_tensors
from rhapsode.weights.shard_writer import plan_files, shard_joiner, shard_writer

SLOTS = [Slot("a", torch.float32, (4, 3)), Slot("b", torch.bfloat16, (5,)), Slot("c", torch.float32, (2, 3, 4))]


def values() -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    return {slot.name: torch.randn(slot.shape, generator=random).to(slot.dtype) for slot in SLOTS}


def stored(path: Path) -> dict[str, torch.Tensor]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping


def assert_whole(found: dict[str, torch.Tensor]) -> None:
    assert found.keys() == values().keys()
    assert all(torch.equal(found[name], value) for name, value in values().items())


@pytest.mark.parametrize("rows", [1, 2, 3, 9])
def test_tensors_that_come_in_blocks_side_by_side_are_whole(rows: int, tmp_path: Path) -> None:
    flat = {name: value.flatten(0, -2) if value.ndim > 1 else value for name, value in values().items()}
    blocks = [(name, row * rows, block) for name, v in flat.items() for row, block in enumerate(v.split(rows))]
    with shard_writer(tmp_path, SLOTS) as out:
        for name, row, block in reversed(blocks):
            out.write_corner(name, block, row=row)
    assert_whole(stored(tmp_path / "model.safetensors"))


def test_columns_have_their_places_too(tmp_path: Path) -> None:
    path, whole = tmp_path / "t", values()["a"]
    with TensorWriter(path, SLOTS[:1]) as out:
        out.write_corner("a", whole[:, 1:], row=0, column=1)
        out.write_corner("a", whole[:2, :1], row=0)
        out.write_corner("a", whole[2:, :1], row=2)
    assert torch.equal(stored(path)["a"], whole)
    with TensorFile(path) as file:
        for rows, columns in ((slice(1, 3), slice(1, 3)), (slice(0, 4), slice(0, 1)), (slice(3, 4), slice(0, 3))):
            corner = torch.empty_like(whole[rows, columns])
            file.read_corner("a", corner, row=rows.start, column=columns.start)
            assert torch.equal(corner, whole[rows, columns])


def test_what_several_write_is_what_one_would_have_written(tmp_path: Path) -> None:
    alone, together = tmp_path / "alone", tmp_path / "together"
    write_tensors(alone, values())
    plan_file(together, SLOTS)
    assert together.stat().st_size == alone.stat().st_size
    with TensorJoiner(together) as first, TensorJoiner(together) as second:
        for name, value in values().items():
            row = 1 if value.ndim == 1 else value.shape[0] // 2 * (value.shape[1] if value.ndim > 2 else 1)
            flat = value.flatten(0, -2) if value.ndim > 1 else value
            second.write_corner(name, flat[row:], row=row)
            first.write_corner(name, flat[:row], row=0)
    assert together.read_bytes() == alone.read_bytes()


def test_several_files_have_an_index(tmp_path: Path) -> None:
    plan_files(tmp_path, SLOTS, max_shard_bytes=60)
    with shard_joiner(tmp_path) as out:
        for name, value in values().items():
            out.write(name, value)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == 48 + 10 + 96
    assert_whole({k: v for name in set(index["weight_map"].values()) for k, v in stored(tmp_path / name).items()})


def test_what_does_not_come_whole_is_a_defect_of_ours(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="were planned and never came"), shard_writer(tmp_path, SLOTS) as out:
        out.write_corner("a", torch.zeros(3, 3), row=0)
    with pytest.raises(AssertionError, match="a has more than was planned"), shard_writer(tmp_path, SLOTS) as out:
        out.write_corner("a", torch.zeros(5, 3), row=0)
    with pytest.raises(AssertionError), shard_writer(tmp_path, SLOTS) as out:
        out.write_corner("a", torch.zeros(2, 3), row=3)
