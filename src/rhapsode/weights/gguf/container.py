"""The GGUF container: metadata and tensor directory, read with every length checked before it is believed.

A file may come from anyone. Nothing is allocated because the file says so: of a long text or an array only
the place is kept, and it becomes Python values when it is asked for.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

from rhapsode.weights.gguf.cursor import COUNT, LENGTH, WINDOW, Cursor
from rhapsode.weights.gguf.source import Source

MAGIC = b"GGUF"
VERSIONS = (2, 3)
ALIGNMENT = 32

# Far above any published model; what they bound is the time and memory of a file that means harm.
LONGEST_HEADER = 2**26
MOST_KEYS = 2**12
MOST_TENSORS = 2**16
MOST_STRINGS = 2**21
LONGEST_LIST = 2**12  # of lists outside the vocabulary
LONGEST_NAME = 2**8
MOST_DIMENSIONS = 4
SHORT_TEXT = 2**10

_STRING, _ARRAY, _BOOL = 8, 9, 7
_SCALARS: dict[int, np.dtype[Any]] = {
    0: np.dtype("<u1"),
    1: np.dtype("<i1"),
    2: np.dtype("<u2"),
    3: np.dtype("<i2"),
    4: np.dtype("<u4"),
    5: np.dtype("<i4"),
    6: np.dtype("<f4"),
    7: np.dtype("<u1"),
    10: np.dtype("<u8"),
    11: np.dtype("<i8"),
    12: np.dtype("<f8"),
}


class TensorInfo(NamedTuple):
    """A tensor of the file: shape in numpy's order (rows first), type, and where its bytes lie in the file."""

    shape: tuple[int, ...]
    type: GGMLQuantizationType
    offset: int
    size: int


class _Stored(NamedTuple):
    """A value that is left in the file: an array, or a text (length None) of `size` bytes."""

    kind: int
    length: int | None
    offset: int
    size: int


class Metadata(Mapping[str, Any]):
    """Key -> int, float, bool, str, or list of one of them. Arrays and long texts are read when they are asked for."""

    def __init__(self, source: Source, values: dict[str, Any]) -> None:
        self._source, self._values = source, values

    def __getitem__(self, key: str) -> Any:
        value = self._values[key]
        if not isinstance(value, _Stored):
            return value
        data = self._source.read(value.offset, value.size, what=key)
        if value.length is None:
            return _text(data, self._source, key)
        if value.kind == _STRING:
            return _texts(data, value.length, self._source, key)
        numbers = np.frombuffer(data, _SCALARS[value.kind])
        return numbers.astype(bool).tolist() if value.kind == _BOOL else numbers.tolist()

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def length(self, key: str) -> int | None:
        """How many elements an array has, without reading it; None where the value is no array or absent."""
        value = self._values.get(key)
        return value.length if isinstance(value, _Stored) else None


class Gguf(NamedTuple):
    """A GGUF file: what it says about itself, and where its tensors lie."""

    source: Source
    metadata: Metadata
    tensors: dict[str, TensorInfo]

    @property
    def path(self) -> Path:
        return self.source.path


def read_gguf(path: Path) -> Gguf:
    """Read the header of a little-endian GGUF file of version 2 or 3.

    Raises:
        RhapsodeError: it is not one, it is damaged, or it is larger than any model needs; the key or tensor is named.
    """
    header = _Header(Source(Path(path)))
    num_tensors, num_keys = header.counts()
    values: dict[str, Any] = {}
    for _ in range(num_keys):
        key = header.name("a key")
        if key in values:
            header.source.fail(f"key {key!r} is there twice")
        values[key] = header.value(key)
    metadata = Metadata(header.source, values)
    if metadata.get("split.count", 1) not in (0, 1):
        header.source.fail(
            "it is one part of a model that was split into several files",
            "join them first: llama-gguf-split --merge FIRST_PART JOINED.gguf",
        )
    return Gguf(header.source, metadata, _tensors(header, num_tensors, metadata))


def _tensors(header: "_Header", count: int, metadata: Metadata) -> dict[str, TensorInfo]:
    """The directory of tensors, their offsets made absolute."""
    alignment = metadata.get("general.alignment", ALIGNMENT)
    if type(alignment) is not int or not 8 <= alignment <= WINDOW or alignment & (alignment - 1):
        header.source.fail(f"general.alignment is {alignment!r}; it must be a power of two from 8 to {WINDOW}")
    found: dict[str, TensorInfo] = {}
    for _ in range(count):
        name = header.name("a tensor's name")
        if name in found:
            header.source.fail(f"tensor {name!r} is there twice")
        found[name] = header.tensor(name, alignment)
    start = -(-header.position // alignment) * alignment
    placed = {name: info._replace(offset=start + info.offset) for name, info in found.items()}
    end, before = start, ""
    for name, info in sorted(placed.items(), key=lambda item: item[1].offset):
        if info.offset < end:
            header.source.fail(f"tensor {name!r} lies over {before!r}")
        end, before = info.offset + info.size, name
        if end > header.source.size:
            header.source.fail(f"tensor {name!r} ends at byte {end}, the file at {header.source.size}")
    return placed


class _Header(Cursor):
    """The header, read from its beginning on."""

    def __init__(self, source: Source) -> None:
        super().__init__(source, limit=LONGEST_HEADER)
        self._num_texts = 0

    def counts(self) -> tuple[int, int]:
        """How many tensors and keys the header announces."""
        if self.source.size < len(MAGIC) or self.take(len(MAGIC), "the header") != MAGIC:
            self.source.fail("it is not a GGUF file", "name a .gguf file")
        version = self.number(COUNT, "the version")
        if version not in VERSIONS:
            if int.from_bytes(version.to_bytes(4, "little"), "big") in VERSIONS:
                self.source.fail("it is big-endian, which Rhapsode does not read", "take the little-endian file")
            self.source.fail(
                f"its version is {version}; versions 2 and 3 are read", "convert it with a newer llama.cpp"
            )
        num_tensors, num_keys = (self.number(LENGTH, "the header") for _ in range(2))
        if num_tensors > MOST_TENSORS or num_keys > MOST_KEYS:
            self.source.fail(
                f"it announces {num_tensors} tensors and {num_keys} keys; "
                f"at most {MOST_TENSORS} and {MOST_KEYS} are read"
            )
        return num_tensors, num_keys

    def name(self, what: str) -> str:
        size = self.number(LENGTH, what)
        if not 0 < size <= LONGEST_NAME:
            self.source.fail(f"{what} at byte {self.position} is {size} bytes long; 1 to {LONGEST_NAME} are read")
        name = _text(self.take(size, what), self.source, what)
        if not name.isprintable():
            self.source.fail(f"{what} is {name!r}, which cannot be printed")
        return name

    def value(self, key: str) -> Any:
        """A scalar or a short text as it is; else where it lies."""
        kind = self.number(COUNT, key)
        if kind == _STRING:
            return self._string(key)
        if kind == _ARRAY:
            return self._array(key)
        if kind not in _SCALARS:
            self.source.fail(f"key {key!r} has the unknown type {kind}")
        dtype = _SCALARS[kind]
        number = np.frombuffer(self.take(dtype.itemsize, key), dtype)[0].item()
        return bool(number) if kind == _BOOL else number

    def tensor(self, name: str, alignment: int) -> TensorInfo:
        """A tensor's entry; its offset is still counted from where the tensors begin."""
        what = f"tensor {name!r}"
        dims = self.number(COUNT, what)
        if not 1 <= dims <= MOST_DIMENSIONS:
            self.source.fail(f"{what} has {dims} dimensions; 1 to {MOST_DIMENSIONS} are read")
        shape = tuple(self.number(LENGTH, what) for _ in range(dims))[::-1]
        number, offset = self.number(COUNT, what), self.number(LENGTH, what)
        try:
            kind = GGMLQuantizationType(number)
        except ValueError:
            self.source.fail(f"{what} has the unknown type {number}", "a newer version of gguf may know it")
        block, block_size = GGML_QUANT_SIZES[kind]
        if min(shape) == 0 or shape[-1] % block:
            self.source.fail(f"{what} is {list(shape)}; {kind.name} needs rows of a multiple of {block}")
        size = math.prod(shape) // block * block_size
        if offset % alignment:
            self.source.fail(f"{what} lies at offset {offset}, which is not a multiple of {alignment}")
        if offset + size > self.source.size:
            self.source.fail(f"{what} needs {size} bytes at {offset}; the file has {self.source.size}")
        return TensorInfo(shape, kind, offset, size)

    def _string(self, key: str) -> str | _Stored:
        size = self.number(LENGTH, key)
        if size <= SHORT_TEXT:
            return _text(self.take(size, key), self.source, key)
        start = self.position
        self.skip(size, key)
        return _Stored(_STRING, None, start, size)

    def _array(self, key: str) -> _Stored:
        kind, count = self.number(COUNT, key), self.number(LENGTH, key)
        start = self.position
        if count > LONGEST_LIST and not key.startswith("tokenizer."):
            self.source.fail(f"key {key!r} is an array of {count}; at most {LONGEST_LIST} are read")
        if kind == _STRING:
            self._num_texts += count
            if self._num_texts > MOST_STRINGS:
                self.source.fail(
                    f"key {key!r} brings the texts in arrays to {self._num_texts}; at most {MOST_STRINGS} are read"
                )
            self.skip_texts(count, key)
        elif kind in _SCALARS:
            self.skip(count * _SCALARS[kind].itemsize, key)
        else:
            self.source.fail(f"key {key!r} is an array of type {kind}; arrays of numbers or texts are read")
        return _Stored(kind, count, start, self.position - start)


def _text(data: bytes, source: Source, key: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        source.fail(f"{key} is not UTF-8: {error.reason} at byte {error.start}")


def _texts(data: bytes, count: int, source: Source, key: str) -> list[str]:
    position, unpack, texts = 0, LENGTH.unpack_from, []
    try:
        for _ in range(count):
            start = position + LENGTH.size
            position = start + unpack(data, position)[0]
            texts.append(data[start:position].decode())
    except UnicodeDecodeError as error:
        source.fail(f"{key}[{len(texts)}] is not UTF-8: {error.reason} at byte {error.start}")
    return texts
