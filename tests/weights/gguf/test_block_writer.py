import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from rhapsode.weights.gguf.block_writer import block_writer
from rhapsode.weights.header import Slot

SLOTS = [Slot("a", torch.float32, (4, 3)), Slot("b", torch.bfloat16, (5,)), Slot("c", torch.float32, (2, 3))]


def values() -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    return {slot.name: torch.randn(slot.shape, generator=random).to(slot.dtype) for slot in SLOTS}


def stored(path: Path) -> dict[str, torch.Tensor]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping


@pytest.mark.parametrize("rows", [1, 2, 3, 9])
def test_tensors_that_come_in_blocks_side_by_side_are_whole(rows: int, tmp_path: Path) -> None:
    blocks = {name: list(value.split(rows)) for name, value in values().items()}
    with block_writer(tmp_path, SLOTS) as out:
        while any(blocks.values()):
            for name in reversed(blocks):
                if blocks[name]:
                    out.append(name, blocks[name].pop(0))
    found = stored(tmp_path / "model.safetensors")
    assert found.keys() == values().keys()
    assert all(torch.equal(found[name], value) for name, value in values().items())


def test_several_files_have_an_index(tmp_path: Path) -> None:
    with block_writer(tmp_path, SLOTS, max_shard_bytes=60) as out:
        for name, value in values().items():
            out.append(name, value)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == 48 + 10 + 24
    for name, value in values().items():
        assert torch.equal(stored(tmp_path / index["weight_map"][name])[name], value)
    assert len(set(index["weight_map"].values())) == 2


def test_what_does_not_come_whole_is_a_defect_of_ours(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="were planned and never came"), block_writer(tmp_path, SLOTS) as out:
        out.append("a", torch.zeros(3, 3))
    with pytest.raises(AssertionError, match="a has more rows than were planned"), block_writer(tmp_path, SLOTS) as out:
        out.append("a", torch.zeros(5, 3))
