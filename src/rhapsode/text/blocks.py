"""Cutting text before the vocabulary sees it, so that memory and time stay bounded however long a document is."""

import re
from collections.abc import Iterator, Sequence

# The library keeps about 250 bytes a token while it works: long texts go through it in blocks, a few at a time.
_BLOCK_CHARS = 2**17
_GROUP_CHARS = 2**22

_LONGEST_RUN = 256
_LONG_RUN = re.compile(rf"(?<!\S)\S{{{_LONGEST_RUN},}}|(?<!\s)\s{{{_LONGEST_RUN},}}")
_LINE_START = re.compile(r"(?<=\n)(?=\S)")
_INVALID_BYTES = re.compile("([\udc80-\udcff]+)")


def runs(text: str | bytes) -> Iterator[str | bytes]:
    """`text` as valid UTF-8 (str) and, where it is not, as bytes. No run is empty."""
    if isinstance(text, str):
        if is_utf8(text):
            if text:
                yield text
            return
        text = text.encode("utf-8", "surrogatepass")
    for run in _INVALID_BYTES.split(text.decode("utf-8", "surrogateescape")):
        if run:
            yield run.encode("utf-8", "surrogateescape") if "\udc80" <= run[0] <= "\udcff" else run


def line_blocks(text: str) -> Iterator[str]:
    """`text` in blocks that begin at a line's first visible character."""
    start = 0
    while len(text) - start > _BLOCK_CHARS and (cut := _LINE_START.search(text, start + _BLOCK_CHARS)):
        yield text[start : cut.start()]
        start = cut.start()
    if start < len(text):
        yield text[start:]


def training_pieces(text: str) -> Iterator[str]:
    """`text` in blocks, its long runs without a space cut: learning takes the square of a word's length in time."""
    clean = text if is_utf8(text) else text.encode("utf-8", "ignore").decode()
    for block in line_blocks(clean):
        start = 0
        for run in _LONG_RUN.finditer(block):
            for stop in range(run.start() + _LONGEST_RUN, run.end(), _LONGEST_RUN):
                yield block[start:stop]
                start = stop
        yield block[start:]


def groups(blocks: Sequence[str]) -> Iterator[Sequence[str]]:
    """As many blocks at a time as the library may work on at once. No block may be empty."""
    start = chars = 0
    for stop, block in enumerate(blocks):
        if chars and chars + len(block) > _GROUP_CHARS:
            yield blocks[start:stop]
            start, chars = stop, 0
        chars += len(block)
    if chars:
        yield blocks[start:]


def is_utf8(text: str) -> bool:
    """Python strings may hold lone surrogates, which UTF-8 has no bytes for."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
