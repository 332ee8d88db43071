"""Operators in C, compiled on the machine that runs them.

A training step on a CPU spends more time between its matrix products than in them, if every small operator reads and
writes memory of its own. The sources in `csrc/` do such work in one pass, for exactly the instructions this processor
has: that takes a compiler two seconds, once, and the result is kept in Rhapsode's home. Where there is no compiler,
torch's operators do the same work more slowly; each of these has its twin, and tests compare them.
"""

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from rhapsode.core.home import home
from rhapsode.core.machine import examine

NATIVE = "RHAPSODE_NATIVE"
SOURCES = Path(__file__).parent / "csrc"
COMPILERS = ("cc", "gcc", "clang")
FLAGS = ("-std=gnu11", "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fPIC", "-shared")
VARIANTS: tuple[tuple[str, ...], ...] = (("-fopenmp", "-mprefer-vector-width=512"), ("-fopenmp",), ())
"""Tried in this order: not every compiler knows every flag. Without OpenMP one thread does all the work."""
COMPILE_SECONDS = 120


def call(name: str, *arguments: Tensor | int | float) -> None:
    """Run a C function: a tensor goes as the address of its memory, an int as long, a float as float.

    Raises:
        MemoryError: the function had no memory for its own use.
    """
    library = _library()
    assert library is not None, "asked for without `suits`"
    if getattr(library, name)(*map(_as_c, arguments)) == -1:
        raise MemoryError(f"{name}: out of memory")


def suits(*tensors: Tensor) -> bool:
    """Whether these are bfloat16 in this machine's own memory, and there is something to run."""
    return all(t.dtype == torch.bfloat16 and t.device.type == "cpu" for t in tensors) and is_here()


def is_dense_float32(tensor: Tensor) -> bool:
    """Whether this is float32 in this machine's own memory, one number beside the other."""
    return tensor.dtype == torch.float32 and tensor.device.type == "cpu" and tensor.is_contiguous()


def is_here() -> bool:
    return _library() is not None


@functools.cache
def has_attention() -> bool:
    """Whether this processor multiplies pairs of bfloat16 the way that `csrc/attention.c` asks."""
    library = _library()
    return library is not None and bool(library.attention_is_here())


def _as_c(value: Tensor | int | float) -> ctypes.c_void_p | ctypes.c_long | ctypes.c_float:
    if isinstance(value, Tensor):
        return ctypes.c_void_p(value.data_ptr())
    return ctypes.c_long(value) if isinstance(value, int) else ctypes.c_float(value)


@functools.cache
def _library() -> ctypes.CDLL | None:
    """The compiled sources; None where RHAPSODE_NATIVE is 0, or nothing here can compile them."""
    compiler = os.environ.get("CC") or next(filter(None, map(shutil.which, COMPILERS)), None)
    if os.environ.get(NATIVE) == "0" or compiler is None:
        return None
    try:
        return ctypes.CDLL(str(_compiled(compiler)))
    except (OSError, subprocess.SubprocessError):
        return None


def _compiled(compiler: str) -> Path:
    """Where the library lies, made if it is not there yet: its name is a hash of all that it depends on.

    Raises:
        OSError, subprocess.SubprocessError: the compiler does not work, or the home cannot be written.
    """
    sources = sorted(SOURCES.glob("*.[ch]"))
    version = subprocess.run([compiler, "--version"], capture_output=True, check=True, timeout=COMPILE_SECONDS).stdout
    machine = examine(Path())
    key = hashlib.sha256(repr((version, FLAGS, VARIANTS, machine.processor, machine.flags)).encode())
    for source in sources:
        key.update(source.read_bytes())
    library = home() / "native" / f"{key.hexdigest()[:16]}.so"
    if not library.exists():
        library.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=library.parent) as work:
            made = Path(work) / library.name
            _compile(compiler, [path for path in sources if path.suffix == ".c"], made)
            made.replace(library)
    return library


def _compile(compiler: str, sources: Sequence[Path], to: Path) -> None:
    commands = [[compiler, *FLAGS, *variant, *map(str, sources), "-o", str(to), "-lm"] for variant in VARIANTS]
    for command in commands[:-1]:
        if subprocess.run(command, capture_output=True, check=False, timeout=COMPILE_SECONDS).returncode == 0:
            return
    subprocess.run(commands[-1], capture_output=True, check=True, timeout=COMPILE_SECONDS)


class Heads(NamedTuple):
    """How numbers lie: `tokens` of them `stride` apart, each with `heads` dense rows of `size`."""

    tokens: int
    stride: int
    heads: int
    size: int

    @classmethod
    def of(cls, x: Tensor) -> "Heads":
        """Those of x [..., H, C]; a tensor that is dense throughout is tokens of one head, whatever its shape."""
        size = x.shape[-1]
        if x.is_contiguous():
            return cls(x.numel() // size, size, 1, size)
        return cls(x.numel() // (x.shape[-2] * size), x.stride(-3), x.shape[-2], size)


def in_heads(x: Tensor) -> Tensor:
    """x itself if `Heads` can tell how it lies, or a copy that it can."""
    return x if _is_regular(x) else x.contiguous()


def _is_regular(x: Tensor) -> bool:
    if x.is_contiguous():
        return True
    if x.ndim < 3 or x.stride(-1) != 1 or x.stride(-2) != x.shape[-1]:
        return False
    return all(x.stride(i) == x.stride(i + 1) * x.shape[i + 1] for i in range(x.ndim - 3))
