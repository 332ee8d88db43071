"""Files as streams: never more bytes than the file had when its digest was taken, decompressed on the way.

Opening never blocks (a FIFO is refused) and memory does not depend on how far a file expands. Damage in a compressed
file may stand at its very end, so a file of many rows is decompressed once to nowhere before its rows are believed.
"""

import contextlib
import gzip
import io
import os
import stat
import zlib
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING, cast

from rhapsode.corpus.readers.record import ReadError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

DAMAGED = "damaged compressed file"
UNREADABLE = "cannot be read"
NOT_REGULAR = "not a regular file"
_BUFFER = 1 << 18


class _Prefix(io.RawIOBase):
    """The first `size` bytes of a file: one that grows while it is read stays what it was."""

    def __init__(self, file: IO[bytes], size: int, count: Callable[[int], None] | None) -> None:
        self._file = file
        self._size = size
        self._count = count
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = self._file.seek(start + offset)
        return self._position

    def readinto(self, buffer: "WriteableBuffer") -> int:
        view = memoryview(buffer).cast("B")[: max(self._size - self._position, 0)]
        count = int(self._file.readinto(view))  # type: ignore[attr-defined]
        self._position += count
        if self._count:
            self._count(count)
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


@contextlib.contextmanager
def opened(
    path: str, *, size: int, compression: str = "", count: Callable[[int], None] | None = None
) -> Iterator[io.BufferedReader]:
    """The first `size` bytes of a file on disk, decompressed. `count` hears of every piece of bytes read from it.

    Raises:
        ReadError: it cannot be opened, is not a regular file, or is damaged.
    """
    with contextlib.closing(_Prefix(_open(path), size, count)) as raw:
        try:
            if compression == "gzip":
                yield io.BufferedReader(cast("io.RawIOBase", gzip.GzipFile(fileobj=raw, mode="rb")), _BUFFER)
            elif compression == "zstd":
                import pyarrow as pa

                stream = pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd")
                yield io.BufferedReader(stream, _BUFFER)
            else:
                yield io.BufferedReader(raw, _BUFFER)
        except (OSError, EOFError, zlib.error) as error:
            if compression:
                raise ReadError(DAMAGED, str(error)) from error
            raise ReadError(UNREADABLE, str(error)) from error


def check(path: str, *, size: int, compression: str) -> None:
    """Decompress to nowhere.

    Raises:
        ReadError: the file is damaged.
    """
    with opened(path, size=size, compression=compression) as file:
        buffer = bytearray(_BUFFER)
        while file.readinto(buffer):
            pass


def _open(path: str) -> IO[bytes]:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ReadError(UNREADABLE, error.strerror or str(error)) from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise ReadError(NOT_REGULAR)
    return os.fdopen(handle, "rb", buffering=0)
