"""Rows of a tensor as numbers, whatever their type. What the `gguf` package can expand is read, a block at a time."""

import functools

import gguf.quants
import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from numpy.typing import NDArray

from rhapsode.core.errors import RhapsodeError
from rhapsode.weights.gguf.container import Gguf

BLOCK = 2**24  # numbers to read at a time, for those who need not have them all: 64 MiB as float32
_STEP = 2**18  # numbers expanded at a time: what is in between stays in the processor's cache


@functools.cache
def is_readable(kind: GGMLQuantizationType) -> bool:
    """Whether the package can expand this type; it is asked to expand one block of zeros."""
    try:
        gguf.quants.dequantize(np.zeros((1, GGML_QUANT_SIZES[kind][1]), np.uint8), kind)
    except NotImplementedError:
        return False
    return True


def check_types(file: Gguf) -> None:
    """Whether every tensor can be read.

    Raises:
        RhapsodeError: naming the first that cannot, its type, and the types that can.
    """
    for name, info in file.tensors.items():
        if not is_readable(info.type):
            known = ", ".join(kind.name for kind in GGMLQuantizationType if is_readable(kind))
            raise RhapsodeError(
                f"{file.path}: tensor {name!r} is {info.type.name}, which cannot be expanded", f"readable: {known}"
            )


def read_rows(file: Gguf, name: str, *, start: int = 0, stop: int | None = None) -> NDArray[np.float32]:
    """Rows start to stop of a tensor, float32 [rows, columns]; leading dimensions are flattened, a vector is one row.

    Raises:
        RhapsodeError: the file became shorter or changed, or a number is not finite.
    """
    info = file.tensors[name]
    columns = info.shape[-1]
    block, block_size = GGML_QUANT_SIZES[info.type]
    row_size = columns // block * block_size
    stop = info.size // row_size if stop is None else stop
    data = file.source.read(info.offset + start * row_size, (stop - start) * row_size, what=f"tensor {name!r}")
    with np.errstate(all="ignore"):  # a damaged scale may overflow; the result is looked at
        values = _expand(np.frombuffer(data, np.uint8), info.type)
        is_whole = np.isfinite(values.sum()) or np.isfinite(values).all()
    if not is_whole:
        raise RhapsodeError(
            f"{file.path}: tensor {name!r} holds infinity or NaN", "the model is damaged; fetch it again"
        )
    return values.reshape(stop - start, columns)


def _expand(data: NDArray[np.uint8], kind: GGMLQuantizationType) -> NDArray[np.float32]:
    """Every block of quantised numbers stands for itself, so rows of any length may be made of them."""
    block, block_size = GGML_QUANT_SIZES[kind]
    if kind in (GGMLQuantizationType.F32, GGMLQuantizationType.F16):
        return np.asarray(gguf.quants.dequantize(data, kind))
    step = max(1, _STEP // block) * block_size
    out = np.empty(data.size // block_size * block, np.float32)
    for start in range(0, data.size, step):
        part = gguf.quants.dequantize(data[None, start : start + step], kind)
        first = start // block_size * block
        out[first : first + part.size] = part[0]
    return out
