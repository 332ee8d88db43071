"""The baseline is the xz that people have."""

import random
import shutil
import subprocess

import pytest

from rhapsode.evaluate.xz import compressed_bytes

XZ = shutil.which("xz")
WORDS = [f"{a}{b}" for a in ("rhap", "so", "di", "verse", "stitch") for b in ("", "ed", "ing", "er")]


def text(size: int) -> bytes:
    rng = random.Random(size)
    return " ".join(rng.choices(WORDS, k=size // 6)).encode()[:size]


@pytest.mark.skipif(XZ is None, reason="the xz command is not installed")
@pytest.mark.parametrize("size", [0, 1, 5, 100, 4_000, 60_000, 1_200_000])
def test_equals_the_command(size: int) -> None:
    data = text(min(size, 60_000)) + random.Random(0).randbytes(max(0, size - 60_000))
    assert XZ is not None
    shell = subprocess.run([XZ, "-9e", "-T1", "-c"], input=data, capture_output=True, check=True)
    assert compressed_bytes(data) == len(shell.stdout)


def test_the_container_is_counted() -> None:
    assert compressed_bytes(b"") == 32
    assert 56 <= compressed_bytes(b"a") <= 64
