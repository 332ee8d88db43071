"""The header of a safetensors file: 8 bytes of length, then JSON that gives every tensor its type, shape and place.

It is read as if it meant harm. Before any of it is believed, its length is held against the file and its size against a
bound; then every tensor must fit its own shape, and all of them together must fill the file without gap or overlap.
"""

import json
import math
import struct
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch

from rhapsode.core.errors import RhapsodeError
from rhapsode.weights.json_file import MOST_BYTES, parse_object

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
SPELLED = {dtype: name for name, dtype in DTYPES.items()}

KEYS = {"dtype", "shape", "data_offsets"}
METADATA = "__metadata__"
MOST_DIMENSIONS = 8
LONGEST_NAME = 256
LENGTH = struct.Struct("<Q")
ALIGNMENT = 8
NO_METADATA: Mapping[str, str] = MappingProxyType({})


class Slot(NamedTuple):
    """A tensor before it has values."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


class Entry(NamedTuple):
    """A tensor in a file: bytes `start` to `stop`, counted from the file's first."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    stop: int


class Header(NamedTuple):
    """What a file says of itself: its tensors, and words that whoever made it put beside them."""

    tensors: dict[str, Entry]
    metadata: dict[str, str]


def check_length(first: bytes, *, size: int, where: str) -> int:
    """How many bytes of header follow the `first` 8 of a file of `size` bytes.

    Raises:
        RhapsodeError: the file has no room for them, or nobody needs so many.
    """
    if len(first) < LENGTH.size:
        raise RhapsodeError(f"{where} is no safetensors file: it has only {size} bytes", "get the file again")
    (length,) = LENGTH.unpack(first)
    if length > size - LENGTH.size:
        raise RhapsodeError(
            f"{where} is damaged: it has {size:,} bytes and says that {length:,} of them are its header",
            "get the file again",
        )
    if length > MOST_BYTES:
        raise RhapsodeError(
            f"{where}: its header of {length:,} bytes is larger than any model needs", "the file is not genuine"
        )
    return int(length)


def parse_header(data: bytes, *, size: int, where: str) -> Header:
    """The header `data` of a file of `size` bytes, its tensors in the order of their places.

    Raises:
        RhapsodeError: the header is not one, or describes what cannot lie in the file; names the tensor.
    """
    value = parse_object(data, where=f"{where}: the header")
    metadata = value.pop(METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(text, str) for text in metadata.values()):
        raise RhapsodeError(f"{where} is damaged: {METADATA} is not an object of texts", "get the file again")
    begin = LENGTH.size + len(data)
    try:
        found = {name: _entry(name, fields, begin=begin, size=size) for name, fields in value.items()}
        entries = dict(sorted(found.items(), key=lambda item: (item[1].start, item[1].stop)))
        _check_places(entries, begin=begin, size=size)
    except ValueError as error:
        raise RhapsodeError(f"{where} is damaged: {error}", "get the file again") from None
    return Header(entries, metadata)


def plan_header(slots: Iterable[Slot], *, metadata: Mapping[str, str] = NO_METADATA) -> tuple[bytes, dict[str, Entry]]:
    """The first bytes of a file that will hold these tensors, and the place of each.

    The widest types come first, so that every tensor begins at a multiple of its own size.
    """
    header: dict[str, Any] = {METADATA: {**metadata, "format": "pt"}}
    places: list[tuple[Slot, int]] = []
    at = 0
    for slot in sorted(slots, key=lambda slot: -slot.dtype.itemsize):
        stop = at + slot.num_bytes
        assert slot.name not in header
        header[slot.name] = {"dtype": SPELLED[slot.dtype], "shape": slot.shape, "data_offsets": (at, stop)}
        places.append((slot, at))
        at = stop
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    begin = LENGTH.size + len(text)
    entries = {
        slot.name: Entry(slot.dtype, slot.shape, begin + start, begin + start + slot.num_bytes)
        for slot, start in places
    }
    return LENGTH.pack(len(text)) + text, entries


def _entry(name: str, fields: object, *, begin: int, size: int) -> Entry:
    if not name.isprintable() or len(name) > LONGEST_NAME:
        raise ValueError(f"{name[:40]!r} is no name for a tensor")
    if not isinstance(fields, Mapping) or fields.keys() != KEYS:
        raise ValueError(f"{name} does not say its {', '.join(sorted(KEYS))} and nothing else")
    dtype, shape = fields["dtype"], fields["shape"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ValueError(f"{name} is of the type {str(dtype)[:40]!r}; known: {', '.join(DTYPES)}")
    if not _is_whole(shape) or len(shape) > MOST_DIMENSIONS or math.prod(max(n, 1) for n in shape) >= 2**60:
        raise ValueError(f"{name} has the shape {str(shape)[:60]}")
    offsets = fields["data_offsets"]
    if not _is_whole(offsets) or len(offsets) != 2 or not offsets[0] <= offsets[1] <= size - begin:
        raise ValueError(f"{name} lies at {str(offsets)[:60]} of {size - begin:,} bytes")
    slot = Slot(name, DTYPES[dtype], tuple(shape))
    if offsets[1] - offsets[0] != slot.num_bytes:
        raise ValueError(
            f"{name} takes {offsets[1] - offsets[0]:,} bytes, {dtype} of the shape {shape} takes {slot.num_bytes:,}"
        )
    return Entry(slot.dtype, slot.shape, begin + offsets[0], begin + offsets[1])


def _is_whole(values: object) -> bool:
    """Whether it is a list of whole numbers that are not negative, and that a file could be counted in."""
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 2**60 for value in values)


def _check_places(entries: Mapping[str, Entry], *, begin: int, size: int) -> None:
    at, before = begin, "the header"
    for name, entry in entries.items():
        if entry.start != at:
            what = "overlaps with" if entry.start < at else "leaves a gap after"
            raise ValueError(f"{name} {what} {before}")
        at, before = entry.stop, name
    if at != size:
        raise ValueError(f"{size - at:,} bytes after {before} belong to no tensor")
