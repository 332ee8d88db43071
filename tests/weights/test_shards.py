"""Several files and the index that says what lies where."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from rhapsode.core.errors import RhapsodeError
from rhapsode.weights.header import Slot
from rhapsode.weights.safetensors import write_tensors
from rhapsode.weights.shard_writer import plan_shards, shard_writer
from rhapsode.weights.shards import Weights

FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    slots = [Slot(name, torch.float32, (10,)) for name in "abc"]
    with shard_writer(tmp_path, slots, max_shard_bytes=80) as out:
        for number, slot in enumerate(slots):
            out.write(slot.name, torch.full(slot.shape, float(number)))
    return tmp_path


def edit(directory: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = directory / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    change(index["weight_map"])
    path.write_text(json.dumps(index))


def test_shards_and_their_index_are_as_the_ecosystem_names_them(sharded: Path) -> None:
    assert {path.name for path in sharded.iterdir()} == {FIRST, SECOND, "model.safetensors.index.json"}
    index = json.loads((sharded / "model.safetensors.index.json").read_text())
    assert index == {"metadata": {"total_size": 120}, "weight_map": {"a": FIRST, "b": FIRST, "c": SECOND}}
    assert load_file(sharded / SECOND)["c"].eq(2).all()
    with Weights(sharded) as weights:
        assert [weights.tensor(name).mean().item() for name in "abc"] == [0, 1, 2]


def test_what_fits_is_one_file_without_an_index(tmp_path: Path) -> None:
    with shard_writer(tmp_path, [Slot("a", torch.float32, (10,))], max_shard_bytes=40) as out:
        out.write("a", torch.zeros(10))
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


@given(st.lists(st.integers(0, 30), min_size=1, max_size=30), st.integers(1, 60))
def test_shards_keep_the_order_and_are_as_full_as_they_may_be(sizes: list[int], most: int) -> None:
    slots = [Slot(str(i), torch.uint8, (size,)) for i, size in enumerate(sizes)]
    shards = list(plan_shards(slots, max_shard_bytes=most).values())
    assert [slot for shard in shards for slot in shard] == slots
    for shard, following in zip(shards, [*shards[1:], None], strict=True):
        size = sum(slot.num_bytes for slot in shard)
        assert size <= most or sum(slot.num_bytes > 0 for slot in shard) == 1
        assert following is None or size + following[0].num_bytes > most


def test_a_tensor_that_never_came_is_our_mistake(tmp_path: Path) -> None:
    slots = [Slot(name, torch.float32, (1,)) for name in "ab"]
    with pytest.raises(AssertionError, match="'b'"), shard_writer(tmp_path, slots) as out:
        out.write("a", torch.zeros(1))


def test_a_model_larger_than_the_disk_is_refused_before_anything_is_written(small_disk: Path) -> None:
    slots = [Slot("a", torch.float32, (1 << 20,))]
    with pytest.raises(OSError, match="No space left"), shard_writer(small_disk, slots):
        pass
    assert list(small_disk.iterdir()) == []


def test_a_disk_that_fills_up_while_shards_are_written_is_an_operating_system_error(small_disk: Path) -> None:
    slots = [Slot(name, torch.float32, (1 << 16,)) for name in "abc"]
    with shard_writer(small_disk, slots, max_shard_bytes=1 << 18) as out:
        out.write("a", torch.zeros(1 << 16))
        (small_disk / "ballast").write_bytes(b"x" * (1 << 19))
        with pytest.raises(OSError, match="No space left"):
            out.write("b", torch.zeros(1 << 16))
        (small_disk / "ballast").unlink()
        out.write("c", torch.zeros(1 << 16))


OUTSIDE = [
    "../other.safetensors",
    "/etc/passwd",
    "sub/x.safetensors",
    "..",
    "a\x00.safetensors",
    ".safetensors",
    "x.bin",
    "C:\\x.safetensors",
    "-rf.safetensors",
    "\ud800.safetensors",
    "",
    3,
    None,
    ["x.safetensors"],
]


@pytest.mark.parametrize("name", OUTSIDE)
def test_an_index_may_only_name_files_beside_it(name: Any, sharded: Path) -> None:
    (sharded.parent / "other.safetensors").write_bytes((sharded / SECOND).read_bytes())
    edit(sharded, lambda index: index.update(c=name))
    with pytest.raises(RhapsodeError, match=r"index\.json: 'c' is said to lie in"):
        Weights(sharded)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda d: (d / SECOND).unlink(), f"{SECOND}: No such file"),
        (lambda d: edit(d, lambda i: i.update(d=SECOND)), f"{SECOND} holds d, which it lacks"),
        (lambda d: edit(d, lambda i: i.update(c=FIRST)), f"{FIRST} holds c, which it lacks"),
        (lambda d: edit(d, lambda i: i.pop("b")), f"does not name b, which {FIRST} holds"),
        (lambda d: write_tensors(d / SECOND, {n: torch.zeros(10) for n in "bc"}), f"both {FIRST} and {SECOND} hold b"),
        (lambda d: edit(d, lambda i: i.clear()), "has no weight_map"),
        (lambda d: (d / "model.safetensors.index.json").write_text("{"), r"index\.json is damaged"),
        (lambda d: (d / "model.safetensors.index.json").write_text("[]"), r"index\.json is damaged"),
        (lambda d: (d / "model.safetensors.index.json").write_bytes(b" " * (5 << 20)), r"index\.json is larger"),
        (lambda d: os.truncate(d / SECOND, 60), f"{SECOND} is damaged"),
    ],
)
def test_an_index_must_agree_with_its_files(change: Callable[[Path], object], what: str, sharded: Path) -> None:
    change(sharded)
    with pytest.raises(RhapsodeError, match=what):
        Weights(sharded)


def test_a_file_may_be_a_link_as_in_the_cache_of_a_hub(sharded: Path, tmp_path: Path) -> None:
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    for name in (FIRST, SECOND, "model.safetensors.index.json"):
        (snapshot / name).symlink_to(sharded / name)
    with Weights(snapshot) as weights:
        assert weights.tensor("c").eq(2).all()


def test_a_failure_leaves_no_file_open(sharded: Path) -> None:
    edit(sharded, lambda index: index.pop("b"))
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(RhapsodeError):
        Weights(sharded)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@given(st.binary(max_size=60) | st.text('{}[]":,\\abc.u018e-9 ', max_size=60).map(str.encode))
def test_no_index_gets_past_the_reader_as_anything_but_our_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    directory = tmp_path_factory.mktemp("fuzz")
    (directory / "model.safetensors.index.json").write_bytes(b'{"weight_map": {' + data + b"}}")
    with pytest.raises(RhapsodeError, match=r"safetensors"):
        Weights(directory)
