"""The safetensors container: a header, then the bytes of tensors, read and written one tensor at a time.

Bytes are read into the memory where they are wanted rather than mapped: it is as fast, and a file that shrinks under
its reader is then a short read to report, where a map would end the process with SIGBUS. The file stays open from its
header on, so one that is replaced meanwhile is still the old one here; one that is written over is noticed.
"""

import math
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import torch
from torch import Tensor

from rhapsode.core.errors import RhapsodeError, VerificationMismatch
from rhapsode.weights.header import LENGTH, NO_METADATA, Entry, Slot, check_length, parse_header, plan_header

BLOCK_BYTES = 4 << 20
"""What is read before it is converted: small enough to stay in a processor's cache."""


class Identity(NamedTuple):
    """Which bytes a path led to: they are others once this has changed."""

    device: int
    inode: int
    size: int
    changed: int


class TensorFile:
    """A safetensors file, open for reading.

    Attributes:
        tensors: its entries, in the order of their places.
        metadata: words that its maker put beside them.

    Raises:
        RhapsodeError: it cannot be opened, or its header describes what cannot be.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = _open(path)
        try:
            self.identity = identity(os.fstat(self.file))
            size = self.identity.size
            length = check_length(os.pread(self.file, LENGTH.size, 0), size=size, where=str(path))
            header = parse_header(os.pread(self.file, length, LENGTH.size), size=size, where=str(path))
            self.tensors, self.metadata = header
        except BaseException:
            os.close(self.file)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.file)

    def tensor(self, name: str) -> Tensor:
        """One tensor, in memory of its own."""
        entry = self.tensors[name]
        value = torch.empty(entry.shape, dtype=entry.dtype)
        self.read_into(name, value)
        return value

    def read_into(self, name: str, target: Tensor) -> None:
        """Fill `target`, which has the tensor's shape, in its own type and however its elements lie in memory.

        Raises:
            VerificationMismatch: the file has changed since it was opened.
        """
        entry = self.tensors[name]
        assert target.shape == entry.shape
        if target.dtype == entry.dtype and target.is_contiguous() and target.device.type == "cpu":
            self._fill(target, entry.start)
            self.check_unchanged()
            return
        rows = target.reshape(1) if target.ndim == 0 else target
        assert rows.ndim <= 2, "what is stacked deeper is stacked from matrices"
        at = 0
        for block in self.blocks(name):
            rows[at : at + len(block)].copy_(block)
            at += len(block)

    def read_corner(self, name: str, target: Tensor, *, row: int, column: int = 0) -> None:
        """Fill `target` with the part of a tensor, seen as rows of its last dimension, that begins at `row`, `column`.

        Raises:
            VerificationMismatch: the file has changed since it was opened.
        """
        entry = self.tensors[name]
        value = torch.empty(target.shape, dtype=entry.dtype)
        for part, at in _runs(value, entry, row=row, column=column):
            self._fill(part, at)
        self.check_unchanged()
        target.copy_(value)

    def blocks(self, name: str) -> Iterator[Tensor]:
        """The tensor from its first row to its last, a few rows at a time; the next ones take the place of the last.

        A vector comes as vectors; what has more dimensions than a matrix comes as rows of its last one.

        Raises:
            VerificationMismatch: the file has changed since it was opened.
        """
        entry = self.tensors[name]
        row = entry.shape[-1:] if len(entry.shape) > 1 else ()
        row_bytes = max(1, entry.dtype.itemsize * (row[0] if row else 1))
        left = (entry.stop - entry.start) // row_bytes
        buffer = torch.empty((min(left, max(1, BLOCK_BYTES // row_bytes)), *row), dtype=entry.dtype)
        at = entry.start
        while left:
            block = buffer[: min(left, len(buffer))]
            self._fill(block, at)
            yield block
            at += block.nbytes
            left -= len(block)
        self.check_unchanged()

    def check_unchanged(self) -> None:
        """Raises VerificationMismatch: somebody has written into the file since it was opened."""
        if identity(os.fstat(self.file)) != self.identity:
            raise _changed(self.path)

    def check_in_place(self) -> None:
        """Raises VerificationMismatch: the path no longer leads to the bytes that were opened."""
        self.check_unchanged()
        if identity(self.path.stat()) != self.identity:
            raise _changed(self.path)

    def _fill(self, target: Tensor, at: int) -> None:
        memory = as_bytes(target)
        done = 0
        while done < len(memory):
            try:
                read = os.preadv(self.file, [memory[done:]], at + done)
            except OSError as error:
                raise RhapsodeError(f"{self.path}: {error.strerror}", "the disk may be failing") from None
            if read == 0:
                raise _changed(self.path)
            done += read


class TensorWriter:
    """A safetensors file being written: the place of every tensor is planned, they come in any order and any pieces."""

    def __init__(self, path: Path, slots: Iterable[Slot], *, metadata: Mapping[str, str] = NO_METADATA) -> None:
        header, self._places = plan_header(slots, metadata=metadata)
        self._left = {name: math.prod(entry.shape) for name, entry in self._places.items()}
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        try:
            _write(self._file, memoryview(header), 0)
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)
        short = sorted(name for name, left in self._left.items() if left)
        assert error or not short, f"{short[:5]} were planned and never came"

    def write(self, name: str, value: Tensor) -> None:
        """Put a tensor in its place.

        Raises:
            OSError: what the system said, for example that the disk is full.
        """
        assert value.shape == self._places[name].shape, f"{name} is not what was planned"
        self.write_corner(name, value, row=0)

    def write_corner(self, name: str, value: Tensor, *, row: int, column: int = 0) -> None:
        """Put a part of a tensor, seen as rows of its last dimension, where it begins at `row`, `column`.

        Raises:
            OSError: what the system said, for example that the disk is full.
        """
        place = self._places[name]
        assert value.dtype == place.dtype, f"{name} is not what was planned"
        self._left[name] -= value.numel()
        assert self._left[name] >= 0, f"{name} has more than was planned"
        for part, at in _runs(value.detach().cpu().contiguous(), place, row=row, column=column):
            _write(self._file, as_bytes(part), at)


class TensorJoiner(TensorWriter):
    """A file that another process has planned, and of which only a part is written here."""

    def __init__(self, path: Path) -> None:
        with TensorFile(path) as planned:
            self._places = planned.tensors
        self._left = {name: math.prod(entry.shape) for name, entry in self._places.items()}
        self._file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                os.fsync(self._file)
        finally:
            os.close(self._file)


def plan_file(path: Path, slots: Iterable[Slot]) -> None:
    """A file in which every tensor has its place, and no value yet.

    Raises:
        OSError: what the system said, for example that the disk is full.
    """
    header, places = plan_header(slots)
    with path.open("wb") as file:
        file.write(header)
        file.truncate(max((entry.stop for entry in places.values()), default=len(header)))


def write_tensors(path: Path, tensors: Mapping[str, Tensor], *, metadata: Mapping[str, str] = NO_METADATA) -> None:
    """Write one file of tensors that are all there, and words of our own beside them.

    Raises:
        OSError: what the system said, for example that the disk is full.
    """
    slots = [Slot(name, value.dtype, tuple(value.shape)) for name, value in tensors.items()]
    with TensorWriter(path, slots, metadata=metadata) as out:
        for name, value in tensors.items():
            out.write(name, value)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Every tensor of a file."""
    with TensorFile(path) as file:
        return {name: file.tensor(name) for name in file.tensors}


def identity(found: os.stat_result) -> Identity:
    return Identity(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def as_bytes(value: Tensor) -> memoryview:
    """The memory of a contiguous tensor of the CPU, to read from or to write into."""
    assert value.is_contiguous()
    return value.detach().reshape(-1).view(torch.uint8).numpy().data


def _runs(value: Tensor, entry: Entry, *, row: int, column: int) -> Iterator[tuple[Tensor, int]]:
    """The pieces of `value` that lie in one run each in the file, and where: one if it is as wide as the tensor."""
    if not value.numel():
        return
    size, width = entry.dtype.itemsize, entry.shape[-1] if len(entry.shape) > 1 else 1
    rows = value.view(-1, value.shape[-1] if len(entry.shape) > 1 else 1)
    begin = entry.start + (row * width + column) * size
    assert column + rows.shape[1] <= width
    assert begin + ((len(rows) - 1) * width + rows.shape[1]) * size <= entry.stop
    if rows.shape[1] == width:
        yield value, begin
    else:
        yield from ((part, begin + i * width * size) for i, part in enumerate(rows))


def _open(path: Path) -> int:
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe must not wait for its writer
    except OSError as error:
        raise RhapsodeError(f"{path}: {error.strerror}", "the model is not complete; get the file again") from None
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise RhapsodeError(f"{path} is not an ordinary file", "get the file again")
    return file


def _write(file: int, data: memoryview, at: int) -> None:
    while data:
        written = os.pwrite(file, data[:BLOCK_BYTES], at)
        data, at = data[written:], at + written


def _changed(path: Path) -> VerificationMismatch:
    return VerificationMismatch(f"{path} was changed while it was read", "leave it alone and try again")
