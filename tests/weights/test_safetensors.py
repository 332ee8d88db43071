"""The container, held against the library that everybody else reads and writes it with, and against bad files."""

import json
import os
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from rhapsode.core.errors import RhapsodeError, VerificationMismatch
from rhapsode.weights.header import DTYPES, Slot
from rhapsode.weights.json_file import MOST_BYTES
from rhapsode.weights.safetensors import TensorFile, TensorWriter, read_tensors, write_tensors

PLAIN = {"a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}


def random_tensor(dtype: torch.dtype, shape: tuple[int, ...], *, seed: int = 0) -> Tensor:
    """Any bits at all, but for the type that has only two values."""
    count = torch.Size(shape).numel() * dtype.itemsize
    high = 2 if dtype is torch.bool else 256
    data = torch.randint(0, high, (count,), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    return data.view(dtype).reshape(shape)


def same_bits(one: Tensor, other: Tensor) -> bool:
    return (one.dtype, one.shape) == (other.dtype, other.shape) and torch.equal(
        one.reshape(-1).view(torch.uint8), other.reshape(-1).view(torch.uint8)
    )


def tensors() -> st.SearchStrategy[dict[str, Tensor]]:
    shapes = st.lists(st.integers(0, 5), max_size=3).map(tuple)
    values = st.builds(random_tensor, st.sampled_from(list(DTYPES.values())), shapes, seed=st.integers(0, 99))
    return st.dictionaries(st.text("abc.0é", min_size=1, max_size=8), values, max_size=6)


def write_raw(path: Path, header: Any, *, data: bytes = b"x" * 24, length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def change(**fields: Any) -> dict[str, Any]:
    return {"a": {**PLAIN["a"], **fields}}


@given(tensors())
def test_the_library_reads_what_we_write_and_we_read_what_it_writes(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, Tensor]
) -> None:
    directory = tmp_path_factory.mktemp("container")
    write_tensors(directory / "ours", values)
    save_file(values, directory / "theirs", metadata={"format": "pt"})
    for read, name in ((load_file, "ours"), (read_tensors, "theirs"), (read_tensors, "ours")):
        found = read(directory / name)
        assert found.keys() == values.keys()
        assert all(same_bits(found[name], value) for name, value in values.items())
    with safe_open(directory / "ours", framework="pt") as file:
        assert file.metadata() == {"format": "pt"}


@given(tensors())
def test_every_tensor_begins_at_a_multiple_of_its_own_size(
    tmp_path_factory: pytest.TempPathFactory, values: dict[str, Tensor]
) -> None:
    path = tmp_path_factory.mktemp("container") / "file"
    write_tensors(path, values)
    with TensorFile(path) as file:
        assert all(entry.start % entry.dtype.itemsize == 0 for entry in file.tensors.values())


def test_tensors_may_come_in_any_order_and_lie_as_planned(tmp_path: Path) -> None:
    values = {name: torch.randn(3, 4) for name in "abc"}
    slots = [Slot(name, torch.float32, (3, 4)) for name in values]
    for number, order in enumerate(("abc", "cab")):
        with TensorWriter(tmp_path / str(number), slots) as out:
            for name in order:
                out.write(name, values[name].T.contiguous().T)  # lies the other way round in memory
    assert (tmp_path / "0").read_bytes() == (tmp_path / "1").read_bytes()
    assert torch.equal(read_tensors(tmp_path / "0")["c"], values["c"])


@pytest.mark.parametrize("shape", [(), (7,), (5, 3), (1, 1), (0, 3), (1_500_000,), (3, 1_200_000), (1_300_000, 2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_reading_converts_as_torch_does_whatever_lies_where(
    shape: tuple[int, ...], dtype: torch.dtype, tmp_path: Path
) -> None:
    value = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    write_tensors(tmp_path / "file", {"before": torch.zeros(3, dtype=torch.int8), "value": value})
    with TensorFile(tmp_path / "file") as file:
        assert same_bits(file.tensor("value"), value)
        blocks = [block.clone() for block in file.blocks("value")]
        assert torch.equal(torch.cat(blocks) if blocks else torch.empty(shape), value if shape else value.view(1))
        for wanted in (torch.float32, torch.bfloat16):
            target = torch.empty(shape, dtype=wanted)
            file.read_into("value", target)
            assert torch.equal(target, value.to(wanted))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(5, 3), (3, 1_200_000), (1_300_000, 2)])
def test_reading_fills_memory_that_lies_the_other_way_round(
    shape: tuple[int, int], dtype: torch.dtype, tmp_path: Path
) -> None:
    value = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    write_tensors(tmp_path / "file", {"value": value})
    target = torch.empty(shape[::-1], dtype=dtype)
    with TensorFile(tmp_path / "file") as file:
        file.read_into("value", target.T)
    assert torch.equal(target, value.to(dtype).T)


def test_a_view_into_a_larger_tensor_is_filled_and_nothing_around_it(tmp_path: Path) -> None:
    write_tensors(tmp_path / "file", {"value": torch.arange(6.0).view(2, 3)})
    whole = torch.full((4, 5), -1.0)
    with TensorFile(tmp_path / "file") as file:
        file.read_into("value", whole[1:3, 1:4])
    assert torch.equal(whole[1:3, 1:4], torch.arange(6.0).view(2, 3))
    assert whole.eq(-1).sum() == 14


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda p: p.write_bytes(b""), "only 0 bytes"),
    "seven bytes": (lambda p: p.write_bytes(b"1234567"), "only 7 bytes"),
    "header of 2^63": (lambda p: write_raw(p, PLAIN, length=2**63), "9,223,372,036,854,775,808 of them"),
    "header of 2^64 - 1": (lambda p: write_raw(p, PLAIN, length=2**64 - 1), "of them are its header"),
    "header past the end": (lambda p: write_raw(p, PLAIN, length=500), "500 of them are its header"),
    "header of no bytes": (lambda p: write_raw(p, b""), "the header is damaged"),
    "header too large": (lambda p: write_raw(p, b" " * (MOST_BYTES + 1)), "larger than any model needs"),
    "100 million keys": (
        lambda p: write_raw(p, b"{" + b'"":0,' * 700_000 + b"}"),
        "larger than any model needs",
    ),
    "nested without end": (lambda p: write_raw(p, b"[" * 200_000), "the header is damaged"),
    "not UTF-8": (lambda p: write_raw(p, b'{"\xff":{}}'), "the header is damaged"),
    "no object": (lambda p: write_raw(p, [1, 2]), "not a JSON object"),
    "metadata of numbers": (lambda p: write_raw(p, {**PLAIN, "__metadata__": {"a": 1}}), "__metadata__"),
    "the same tensor twice": (
        lambda p: write_raw(p, b"{" + json.dumps(PLAIN)[1:-1].encode() + b"," + json.dumps(PLAIN)[1:].encode()),
        "'a' stands in it twice",
    ),
    "a name that cannot be shown": (lambda p: write_raw(p, {"\ud800": PLAIN["a"]}), "no name for a tensor"),
    "a very long name": (lambda p: write_raw(p, {"a" * 300: PLAIN["a"]}), "no name for a tensor"),
    "no fields": (lambda p: write_raw(p, {"a": {}}), "a does not say its"),
    "a number for a tensor": (lambda p: write_raw(p, {"a": 3}), "a does not say its"),
    "a field too many": (lambda p: write_raw(p, change(stride=[3, 1])), "a does not say its"),
    "an unknown type": (lambda p: write_raw(p, change(dtype="F4")), "a is of the type 'F4'"),
    "a type that is no text": (lambda p: write_raw(p, change(dtype=["F32"])), "a is of the type"),
    "another type": (lambda p: write_raw(p, change(dtype="F16")), "a takes 24 bytes, F16 of the shape"),
    "another shape": (lambda p: write_raw(p, change(shape=[2, 4])), "takes 32"),
    "a negative dimension": (lambda p: write_raw(p, change(shape=[-2, -3])), r"a has the shape \[-2, -3\]"),
    "a dimension that is no number": (lambda p: write_raw(p, change(shape=[2, True])), "a has the shape"),
    "a fraction of a dimension": (lambda p: write_raw(p, change(shape=[2, 3.0])), "a has the shape"),
    "a shape past counting": (lambda p: write_raw(p, change(shape=[2**31, 2**31, 0])), "a has the shape"),
    "many dimensions": (lambda p: write_raw(p, change(shape=[1] * 9)), "a has the shape"),
    "a shape that is no list": (lambda p: write_raw(p, change(shape={"2": 3})), "a has the shape"),
    "negative offsets": (lambda p: write_raw(p, change(data_offsets=[-24, 0])), r"a lies at \[-24, 0\]"),
    "offsets past the end": (lambda p: write_raw(p, change(data_offsets=[8, 32])), "a lies at .* of 24 bytes"),
    "offsets past 64 bits": (lambda p: write_raw(p, change(data_offsets=[2**64, 2**64 + 24])), "a lies at"),
    "offsets the wrong way round": (lambda p: write_raw(p, change(data_offsets=[24, 0])), "a lies at"),
    "three offsets": (lambda p: write_raw(p, change(data_offsets=[0, 12, 24])), "a lies at"),
    "bytes of two tensors": (
        lambda p: write_raw(p, {**PLAIN, "b": {"dtype": "U8", "shape": [4], "data_offsets": [20, 24]}}),
        "b overlaps with a",
    ),
    "the same bytes for two tensors": (lambda p: write_raw(p, {**PLAIN, "b": PLAIN["a"]}), "b overlaps with a"),
    "bytes of no tensor between": (
        lambda p: write_raw(p, {**PLAIN, "b": {"dtype": "U8", "shape": [1], "data_offsets": [25, 26]}}, data=b"x" * 26),
        "b leaves a gap after a",
    ),
    "bytes of no tensor at the end": (lambda p: write_raw(p, PLAIN, data=b"x" * 30), "6 bytes after a"),
    "truncated": (lambda p: write_raw(p, PLAIN, data=b"x" * 23), "a lies at .* of 23 bytes"),
    "a directory": (lambda p: p.mkdir(), "not an ordinary file"),
    "a pipe": (os.mkfifo, "not an ordinary file"),
    "a link to itself": (lambda p: p.symlink_to(p), "symbolic links"),
    "missing": (lambda p: None, "No such file"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_file_is_refused_by_name_in_little_memory(fault: str, tmp_path: Path) -> None:
    make, what = FAULTS[fault]
    path = tmp_path / "model.safetensors"
    make(path)
    tracemalloc.start()
    with pytest.raises(RhapsodeError, match=what) as caught:
        TensorFile(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert str(path) in caught.value.message
    assert len(caught.value.message) < 600
    assert peak < 64 << 20


@pytest.mark.parametrize("unit", [b'"%x":"",', b"[],", b"{},", b'"%x":[0],', b"0,", b"[[", b'{"":'])
def test_the_largest_header_that_is_parsed_at_all_takes_little_memory(unit: bytes, tmp_path: Path) -> None:
    marks = sum(unit.count(mark) for mark in (b",", b":", b"[", b"{"))
    units = b"".join(unit % i if b"%x" in unit else unit for i in range((1 << 18) // marks - 1))
    text = b"{" + units + b'"":0}' if b'":' in unit else b"[" + units + b"0]"
    write_raw(tmp_path / "file", text)
    tracemalloc.start()
    with pytest.raises(RhapsodeError):
        TensorFile(tmp_path / "file")
    assert tracemalloc.get_traced_memory()[1] < 64 << 20
    tracemalloc.stop()


@settings(max_examples=300)
@given(st.data())
def test_no_change_of_a_few_bytes_gets_past_the_reader_as_anything_but_our_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "file"
    write_tensors(path, {"a": torch.zeros(2, 3), "layers.0.b": torch.ones(5, dtype=torch.bfloat16)})
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        with_what = data.draw(st.binary(max_size=4) | st.sampled_from([b"9" * 20, b"[]", b'"', b"-", b"{}", b"1e999"]))
        content[at : at + data.draw(st.integers(0, 4))] = with_what
    path.write_bytes(content)
    try:
        found = read_tensors(path)
    except RhapsodeError as error:
        assert str(path) in error.message  # noqa: PT017 - whether it raises is not the point
    else:
        assert sum(value.nbytes for value in found.values()) < len(content)


@settings(max_examples=200)
@given(
    header=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from([*DTYPES]),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["a", "b", "dtype", "shape", "data_offsets", "__metadata__"]), inner, max_size=4
            )
        ),
        max_leaves=12,
    )
)
def test_no_header_gets_past_the_reader_as_anything_but_our_error(
    tmp_path_factory: pytest.TempPathFactory, header: Any
) -> None:
    path = write_raw(tmp_path_factory.mktemp("fuzz") / "file", header)
    try:
        read_tensors(path)
    except RhapsodeError as error:
        assert str(path) in error.message  # noqa: PT017


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    write_tensors(path, {"a": torch.zeros(1000), "b": torch.ones(1000)})
    return path


def test_a_file_that_is_replaced_while_it_is_read_is_served_old_and_noticed(file: Path, tmp_path: Path) -> None:
    with TensorFile(file) as reader:
        write_tensors(tmp_path / "other", {"a": torch.full((1000,), 7.0), "b": torch.full((1000,), 7.0)})
        (tmp_path / "other").rename(file)
        assert reader.tensor("b").eq(1).all()
        with pytest.raises(VerificationMismatch, match=r"model\.safetensors was changed"):
            reader.check_in_place()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_file_that_shrinks_while_it_is_read_is_an_error_and_no_crash(file: Path, dtype: torch.dtype) -> None:
    with TensorFile(file) as reader:
        os.truncate(file, 500)
        with pytest.raises(VerificationMismatch, match="was changed while it was read"):
            reader.read_into("b", torch.empty(1000, dtype=dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_file_that_is_written_over_while_it_is_read_is_noticed(file: Path, dtype: torch.dtype) -> None:
    with TensorFile(file) as reader:
        with file.open("r+b") as out:
            out.seek(-8, os.SEEK_END)
            out.write(b"12345678")
        os.utime(file, ns=(1, 1))  # clocks of file systems are too coarse for a test
        with pytest.raises(VerificationMismatch, match="was changed while it was read"):
            reader.read_into("b", torch.empty(1000, dtype=dtype))


def test_a_full_disk_is_an_operating_system_error(small_disk: Path) -> None:
    with pytest.raises(OSError, match="No space left"):
        write_tensors(small_disk / "file", {"a": torch.zeros(1 << 19)})
