"""Lines of any file in bounded memory: a line that is too long is passed over, and said to be."""

import io
from collections.abc import Iterator
from typing import NamedTuple

from rhapsode.corpus.encoding import sniff
from rhapsode.corpus.readers.record import Opened

_STEP = 1 << 20


class Line(NamedTuple):
    """One physical line with its end, counted from 1; `is_cut` where only its beginning is given."""

    number: int
    text: str
    is_cut: bool


def lines(opened: Opened, *, newline: str = "\n") -> Iterator[Line]:
    """The lines of a file in its own encoding; bytes that do not fit become U+FFFD.

    `newline` is that of `open`: "" also ends lines at carriage returns.
    """
    encoding = sniff(opened.file.peek(_STEP), name=opened.name)
    text = io.TextIOWrapper(opened.file, encoding, errors="replace", newline=newline)
    number = 0
    first = text.readline(opened.max_bytes).removeprefix("\ufeff")
    while line := first or text.readline(opened.max_bytes):
        first = ""
        number += 1
        is_cut = len(line) >= opened.max_bytes and not line.endswith(("\n", "\r"))
        if is_cut:
            _pass_over(text)
        yield Line(number, line[:_STEP] if is_cut else line, is_cut)


def _pass_over(text: io.TextIOWrapper) -> None:
    while (piece := text.readline(_STEP)) and not piece.endswith(("\n", "\r")):
        pass
