"""Digests of what a corpus is made from: input files, the code, and the libraries that shape text."""

import hashlib
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from pathlib import Path

from rhapsode.corpus.decompress import opened

_LIBRARIES = ("charset-normalizer", "ftfy", "lxml", "pyarrow", "trafilatura")
_BUFFER = 1 << 18


def prefix_sha256(path: str, *, size: int, count: Callable[[int], None] | None = None) -> str:
    """The sha256 of the first `size` bytes of a file.

    Raises:
        ReadError: it cannot be read.
    """
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(min(_BUFFER, max(size, 1))))
    with opened(path, size=size, count=count) as file:
        while read := file.raw.readinto(buffer):
            digest.update(buffer[:read])
    return digest.hexdigest()


@cache
def code_sha256() -> str:
    """The identity of this package's code: a corpus made by other code is another corpus."""
    digest = hashlib.sha256()
    folder = Path(__file__).parent
    for file in sorted(folder.rglob("*.py")):
        digest.update(
            f"{file.relative_to(folder).as_posix()}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode()
        )
    return digest.hexdigest()


def library_versions() -> dict[str, str]:
    return {name: version(name) for name in _LIBRARIES}
