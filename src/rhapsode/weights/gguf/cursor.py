"""A place in a file that moves on, and the bytes around it. What the file says of lengths is checked first."""

import struct

from rhapsode.weights.gguf.source import Source

WINDOW = 2**20
LENGTH = struct.Struct("<Q")
COUNT = struct.Struct("<I")


class Cursor:
    """Reads from the first byte on, at most `limit` bytes, and sees a window of them at a time."""

    def __init__(self, source: Source, *, limit: int) -> None:
        self.source = source
        self.position = 0
        self._limit = min(source.size, limit)
        self._start, self._window = 0, b""

    def number(self, form: struct.Struct, what: str) -> int:
        return int(form.unpack(self.take(form.size, what))[0])

    def take(self, size: int, what: str) -> bytes:
        """The next bytes.

        Raises:
            RhapsodeError: there are not so many; `what` says what was read.
        """
        start = self.position
        self.skip(size, what)
        if start < self._start or start + size > self._start + len(self._window):
            self._fill(start, size, what)
        return self._window[start - self._start : start - self._start + size]

    def skip(self, size: int, what: str) -> None:
        """Move on without reading. Raises as `take`."""
        if size > self.source.size - self.position:
            self.source.fail(f"{what} needs {size} bytes at {self.position}; the file has {self.source.size}")
        if size > self._limit - self.position:
            self.source.fail(f"{what} lies beyond {self._limit} bytes, longer than any header that is read")
        self.position += size

    def skip_texts(self, count: int, what: str) -> None:
        """Move on over texts with their lengths before them. Raises as `take`."""
        position, limit, unpack = self.position, self._limit, LENGTH.unpack_from
        window, start = self._window, self._start
        last = start + len(window) - LENGTH.size
        for _ in range(count):
            if position > last:
                self._fill(position, LENGTH.size, what)
                window, start = self._window, self._start
                last = start + len(window) - LENGTH.size
            position += LENGTH.size + unpack(window, position - start)[0]
            if position > limit:
                self.skip(position - self.position, what)
        self.position = position

    def _fill(self, position: int, size: int, what: str) -> None:
        """Move the window so that it holds `size` bytes from `position` on."""
        if position + size > self._limit:
            self.position = position
            self.skip(size, what)
        self._window = self.source.read(position, max(size, min(WINDOW, self._limit - position)), what=what)
        self._start = position
