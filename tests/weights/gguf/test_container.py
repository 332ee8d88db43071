import contextlib
import math
import os
import struct
import tracemalloc
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.weights.gguf.raw import (
    ARRAY,
    BOOL,
    F32,
    STRING,
    U32,
    U64,
    Tensor,
    array,
    header,
    key,
    strings,
    text,
    u32,
    whole,
)

from rhapsode.core.errors import RhapsodeError
from rhapsode.weights.gguf.container import read_gguf
from rhapsode.weights.gguf.rows import read_rows

NEVER = 2**64 - 1
MEMORY = 64 * 2**20


def written(path: Path) -> Path:
    """One value of every type, and three tensors."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_uint8("a.u8", 255)
    writer.add_int8("a.i8", -128)
    writer.add_uint16("a.u16", 65535)
    writer.add_int16("a.i16", -32768)
    writer.add_uint32("a.u32", 2**32 - 1)
    writer.add_int32("a.i32", -(2**31))
    writer.add_uint64("a.u64", 2**64 - 1)
    writer.add_int64("a.i64", -(2**63))
    writer.add_float32("a.f32", 0.5)
    writer.add_float64("a.f64", 0.1)
    writer.add_bool("a.bool", val=True)
    writer.add_string("a.text", "Ὀδύσσεια")
    writer.add_string("a.long", "sing, goddess " * 1000)
    writer.add_array("a.texts", ["", "a", "ä", "🚀"])
    writer.add_array("a.numbers", [1, -2, 3])
    writer.add_array("a.reals", [0.5, -1.5])
    writer.add_array("a.flags", [True, False])
    writer.add_tensor("one", np.arange(5, dtype=np.float32))
    writer.add_tensor("two", np.arange(12, dtype=np.float16).reshape(3, 4))
    writer.add_tensor("three", np.arange(24, dtype=np.float32).reshape(2, 3, 4))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def save(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_every_type_of_value_comes_back(tmp_path: Path) -> None:
    metadata = read_gguf(written(tmp_path / "a.gguf")).metadata
    assert dict(metadata) == {
        "general.architecture": "llama",
        "a.u8": 255,
        "a.i8": -128,
        "a.u16": 65535,
        "a.i16": -32768,
        "a.u32": 2**32 - 1,
        "a.i32": -(2**31),
        "a.u64": 2**64 - 1,
        "a.i64": -(2**63),
        "a.f32": 0.5,
        "a.f64": 0.1,
        "a.bool": True,
        "a.text": "Ὀδύσσεια",
        "a.long": "sing, goddess " * 1000,
        "a.texts": ["", "a", "ä", "🚀"],
        "a.numbers": [1, -2, 3],
        "a.reals": [0.5, -1.5],
        "a.flags": [True, False],
    }
    assert metadata["a.bool"] is True
    assert metadata["a.flags"][1] is False
    assert [metadata.length(name) for name in ("a.texts", "a.numbers", "a.text", "b")] == [4, 3, None, None]


def test_tensors_come_back_where_they_lie(tmp_path: Path) -> None:
    file = read_gguf(written(tmp_path / "a.gguf"))
    assert {name: (info.shape, info.type.name) for name, info in file.tensors.items()} == {
        "one": ((5,), "F32"),
        "two": ((3, 4), "F16"),
        "three": ((2, 3, 4), "F32"),
    }
    assert read_rows(file, "one").tolist() == [[0, 1, 2, 3, 4]]
    assert read_rows(file, "two", start=1, stop=3).tolist() == [[4, 5, 6, 7], [8, 9, 10, 11]]
    assert read_rows(file, "three").tolist() == np.arange(24).reshape(6, 4).tolist()


def test_version_two_is_read(tmp_path: Path) -> None:
    data = bytearray(written(tmp_path / "a.gguf").read_bytes())
    data[4:8] = u32(2)
    assert read_gguf(save(tmp_path / "b.gguf", bytes(data))).metadata["a.u8"] == 255


def test_tensors_may_lie_in_any_order_and_at_another_alignment(tmp_path: Path) -> None:
    keys = [key(b"general.alignment", U32, u32(64))]
    tensors = [Tensor(b"late", [2], 0, 64), Tensor(b"early", [1], 0, 0)]
    data = struct.pack("<f60x2f", 7.0, 8.0, 9.0)
    file = read_gguf(save(tmp_path / "a.gguf", whole(data, keys=keys, tensors=tensors, alignment=64)))
    assert [read_rows(file, name).tolist() for name in ("early", "late")] == [[[7.0]], [[8.0, 9.0]]]


ONE = Tensor(b"weight", [4], 0, 0)
HOSTILE = {
    "nothing at all": (b"", "not a GGUF file"),
    "half a magic": (b"GGU", "not a GGUF file"),
    "another magic": (header(magic=b"GGML"), "not a GGUF file"),
    "version 1": (header(version=1), "version is 1"),
    "a version to come": (header(version=4), "version is 4"),
    "the other byte order": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
    "more tensors than any": (header(num_tensors=NEVER), f"{NEVER} tensors"),
    "more keys than any": (header(num_keys=NEVER), f"{NEVER} keys"),
    "a key as long as all memory": (header(keys=[text(b"", length=NEVER)]), "bytes long"),
    "a key without a name": (header(keys=[key(b"", U32, u32(1))]), "0 bytes long"),
    "a key that is no text": (header(keys=[key(b"\xff\xfe", U32, u32(1))]), "not UTF-8"),
    "a key that cannot be printed": (
        header(keys=[key(b"\x1b[31m", U32, u32(1))]),
        r"'\x1b[31m', which cannot be printed",
    ),
    "a text as long as all memory": (header(keys=[key(b"k", STRING, text(b"", length=NEVER))]), "k needs"),
    "a text beyond the end": (header(keys=[key(b"k", STRING, text(b"abc", length=4))]), "k needs 4 bytes"),
    "a text that is no text": (header(keys=[key(b"k", STRING, text(b"\xc3"))]), "k is not UTF-8"),
    "a type that is none": (header(keys=[key(b"k", 99, b"")]), "'k' has the unknown type 99"),
    "numbers as many as all memory": (
        header(keys=[key(b"tokenizer.k", ARRAY, array(U64, 2**61))]),
        "tokenizer.k needs",
    ),
    "texts without end": (header(keys=[key(b"tokenizer.k", ARRAY, array(STRING, NEVER))]), "'tokenizer.k' brings"),
    "texts that are not there": (header(keys=[key(b"tokenizer.k", ARRAY, array(STRING, 9))]), "tokenizer.k needs"),
    "a text of the array beyond the end": (
        header(keys=[key(b"k", ARRAY, array(STRING, 2, text(b"a") + text(b"", length=2**40)))]),
        "k needs",
    ),
    "a long list of anything": (header(keys=[key(b"k", ARRAY, array(BOOL, 5000, bytes(5000)))]), "array of 5000"),
    "an array in an array": (header(keys=[key(b"k", ARRAY, array(ARRAY, 1, array(U32, 1, u32(1))))]), "of type 9"),
    "an array of nothing known": (header(keys=[key(b"k", ARRAY, array(99, 1))]), "of type 99"),
    "a key twice": (header(keys=[key(b"k", U32, u32(1))] * 2), "'k' is there twice"),
    "a tensor twice": (whole(bytes(64), tensors=[ONE, ONE._replace(offset=32)]), "'weight' is there twice"),
    "a tensor's name as long as all memory": (header(num_tensors=1) + text(b"", length=NEVER), "bytes long"),
    "no dimensions": (whole(bytes(64), tensors=[ONE._replace(dims=[])]), "'weight' has 0 dimensions"),
    "five dimensions": (whole(bytes(64), tensors=[ONE._replace(dims=[1] * 5)]), "'weight' has 5 dimensions"),
    "dimensions without end": (
        header(num_tensors=1) + text(b"weight") + u32(2**32 - 1),
        "'weight' has 4294967295 dimensions",
    ),
    "a dimension of nothing": (whole(bytes(64), tensors=[ONE._replace(dims=[4, 0])]), "'weight' is [0, 4]"),
    "more numbers than there are": (whole(bytes(64), tensors=[ONE._replace(dims=[2**63, 2**63])]), "'weight' needs"),
    "half a block": (whole(bytes(64), tensors=[ONE._replace(dims=[33], kind=8)]), "a multiple of 32"),
    "an unknown type": (whole(bytes(64), tensors=[ONE._replace(kind=999)]), "unknown type 999"),
    "a place between": (whole(bytes(64), tensors=[ONE._replace(offset=4)]), "not a multiple of 32"),
    "a place beyond the end": (whole(bytes(64), tensors=[ONE._replace(offset=64)]), "'weight' ends at"),
    "a place beyond all ends": (whole(bytes(64), tensors=[ONE._replace(offset=2**64 - 32)]), "'weight' needs"),
    "one over the other": (
        whole(bytes(128), tensors=[ONE._replace(dims=[16]), Tensor(b"other", [4], 0, 32)]),
        "'other' lies over 'weight'",
    ),
    "an alignment of nothing": (header(keys=[key(b"general.alignment", U32, u32(0))]), "general.alignment is 0"),
    "an odd alignment": (header(keys=[key(b"general.alignment", U32, u32(24))]), "general.alignment is 24"),
    "an alignment that is none": (header(keys=[key(b"general.alignment", F32, u32(0))]), "general.alignment is 0.0"),
    "one part of several": (header(keys=[key(b"split.count", U32, u32(3))]), "split into several"),
    "a header longer than any": (
        header(keys=[key(b"tokenizer.k", ARRAY, array(BOOL, 2**26, bytes(2**26)))]),
        "longer than any header",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_cannot_be_is_refused_and_named_in_little_memory(case: str, tmp_path: Path) -> None:
    data, complaint = HOSTILE[case]
    path = save(tmp_path / "a.gguf", data)
    tracemalloc.start()
    try:
        with pytest.raises(RhapsodeError) as caught:
            read_gguf(path)
        assert tracemalloc.get_traced_memory()[1] < MEMORY
    finally:
        tracemalloc.stop()
    assert complaint in caught.value.message
    assert str(path) in caught.value.message


def test_a_vocabulary_is_walked_in_little_memory_and_read_when_asked_for(tmp_path: Path) -> None:
    many = array(STRING, 500_000, text(b"token") * 500_000)
    path = save(tmp_path / "a.gguf", whole(keys=[key(b"tokenizer.ggml.tokens", ARRAY, many)]))
    del many
    tracemalloc.start()
    try:
        file = read_gguf(path)
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()
    assert file.metadata["tokenizer.ggml.tokens"] == ["token"] * 500_000


def test_a_file_cut_short_anywhere_is_refused(tmp_path: Path) -> None:
    tensors = [ONE._replace(dims=[8]), Tensor(b"other", [4], 0, 32)]
    keys = [key(b"k", STRING, text(b"value")), key(b"l", ARRAY, strings(b"a", b"b"))]
    data = whole(bytes(48), keys=keys, tensors=tensors)
    read_gguf(save(tmp_path / "whole.gguf", data))
    for size in range(len(data)):
        with pytest.raises(RhapsodeError, match=r"short\.gguf: "):
            read_gguf(save(tmp_path / "short.gguf", data[:size]))


def test_a_file_that_becomes_shorter_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    path = written(tmp_path / "a.gguf")
    file = read_gguf(path)
    with path.open("r+b") as handle:
        handle.truncate(path.stat().st_size - 64)
    for read in (lambda: read_rows(file, "three"), lambda: file.metadata["a.texts"]):
        with pytest.raises(RhapsodeError, match="it changed while"):
            read()


def test_a_file_that_is_replaced_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    path = written(tmp_path / "a.gguf")
    file = read_gguf(path)
    written(tmp_path / "b.gguf").replace(path)
    with pytest.raises(RhapsodeError, match="it changed while tensor 'one' was read"):
        read_rows(file, "one")


@pytest.mark.parametrize("kind", ["missing", "directory", "pipe"])
def test_only_a_regular_file_is_read(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    if kind == "directory":
        path.mkdir()
    if kind == "pipe":
        os.mkfifo(path)
    with pytest.raises(RhapsodeError, match=str(path)):
        read_gguf(path)


@given(data=st.data())
def test_no_change_of_a_few_bytes_brings_anything_but_our_errors(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.gguf"
    content = bytearray(written(path).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    with contextlib.suppress(RhapsodeError):
        file = read_gguf(path)
        assert len(list(file.metadata.items())) == len(file.metadata)
        for name, info in file.tensors.items():
            assert read_rows(file, name).size == math.prod(info.shape)
