"""GGUF files byte by byte, so that a test can say what no writer would."""

import struct
from collections.abc import Sequence
from typing import NamedTuple

U32, F32, BOOL, STRING, ARRAY, U64 = 4, 6, 7, 8, 9, 10


class Tensor(NamedTuple):
    """An entry of the directory: dimensions in ggml's order, type by number, offset."""

    name: bytes
    dims: Sequence[int]
    kind: int
    offset: int


def text(value: bytes, *, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(value) if length is None else length) + value


def key(name: bytes, kind: int, payload: bytes) -> bytes:
    return text(name) + struct.pack("<I", kind) + payload


def array(kind: int, count: int, payload: bytes = b"") -> bytes:
    return struct.pack("<IQ", kind, count) + payload


def strings(*values: bytes) -> bytes:
    return array(STRING, len(values), b"".join(map(text, values)))


def u32(value: int) -> bytes:
    return struct.pack("<I", value)


def tensor(entry: Tensor) -> bytes:
    dims = struct.pack(f"<{len(entry.dims)}Q", *entry.dims)
    return text(entry.name) + u32(len(entry.dims)) + dims + struct.pack("<IQ", entry.kind, entry.offset)


def header(
    *,
    keys: Sequence[bytes] = (),
    tensors: Sequence[Tensor] = (),
    magic: bytes = b"GGUF",
    version: int = 3,
    num_tensors: int | None = None,
    num_keys: int | None = None,
) -> bytes:
    counts = struct.pack(
        "<QQ", len(tensors) if num_tensors is None else num_tensors, len(keys) if num_keys is None else num_keys
    )
    return magic + u32(version) + counts + b"".join(keys) + b"".join(map(tensor, tensors))


def whole(
    data: bytes = b"", *, keys: Sequence[bytes] = (), tensors: Sequence[Tensor] = (), alignment: int = 32
) -> bytes:
    """A file whose tensors begin where they should."""
    start = header(keys=keys, tensors=tensors)
    return start + bytes(-len(start) % alignment) + data
