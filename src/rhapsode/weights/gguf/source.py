"""A file that is read at offsets, and that must stay what it was when it was first looked at.

A file that is cut short or replaced while it is read is an error that names it; a memory map would end the process.
"""

import os
import stat
from pathlib import Path
from typing import NoReturn

from rhapsode.core.errors import RhapsodeError


class Source:
    """A regular file that is read at offsets, and that must stay what it was."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._identity = self._look()
        self.size = self._identity[2]

    def read(self, offset: int, size: int, *, what: str) -> bytes:
        """Exactly `size` bytes.

        Raises:
            RhapsodeError: the file ends before, or is not the file that was opened first.
        """
        if offset + size > self.size:
            self.fail(f"it ends inside {what}", "the file is cut short; fetch it again")
        handle = self._open()
        try:
            if _identity(os.fstat(handle)) != self._identity:
                self.fail(f"it changed while {what} was read", "leave the file alone until it is converted")
            return self._read_all(handle, offset, size, what)
        finally:
            os.close(handle)

    def fail(self, wrong: str, hint: str = "the file is damaged; fetch it again") -> NoReturn:
        raise RhapsodeError(f"{self.path}: {wrong}", hint)

    def _read_all(self, handle: int, offset: int, size: int, what: str) -> bytes:
        parts = []
        while size:
            part = os.pread(handle, size, offset)
            if not part:
                self.fail(f"it became shorter while {what} was read", "leave the file alone until it is converted")
            parts.append(part)
            offset, size = offset + len(part), size - len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _look(self) -> tuple[int, int, int, int]:
        handle = self._open()
        try:
            status = os.fstat(handle)
        finally:
            os.close(handle)
        if not stat.S_ISREG(status.st_mode):
            self.fail("it is not a regular file", "name a .gguf file")
        return _identity(status)

    def _open(self) -> int:
        try:
            # a pipe without a writer would otherwise keep us waiting
            return os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise RhapsodeError(f"{self.path}: {error.strerror}", "name a .gguf file that can be read") from None


def _identity(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
