"""How tensors can be encoded in a GGUF file: what the `gguf` package can make, asked of the package itself.

What a model is most sensitive to stays wide, as llama.cpp's own tools keep it: vectors, norms, routers and learned
positions are F32, and where matrices get fewer than eight bits the vocabulary's two get eight.
"""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, LlamaFileType
from gguf.quants import dequantize, quantize

from rhapsode.core.errors import RhapsodeError

Array = np.ndarray[Any, np.dtype[Any]]

VOCABULARY = ("token_embd.weight", "output.weight")
ALWAYS_F32 = ("ffn_gate_inp.weight", "position_embd.weight")
"""Ends of the names of matrices that are never quantised."""
FILE_TYPES = {"F32": "ALL_F32", "MXFP4": "MOSTLY_MXFP4_MOE"}
"""Where the file type has another name than MOSTLY_ and the encoding's."""
LARGEST_HALF = 65504.0
"""All encodings but F32 and BF16 hold numbers, or the scale of a block, as half precision."""


class Encoding(NamedTuple):
    """One way to write the matrices of a model; block is how many numbers of a row are encoded together."""

    name: str
    type: GGMLQuantizationType
    file_type: LlamaFileType
    block: int
    bits: float

    @property
    def is_exact(self) -> bool:
        """Whether numbers stay numbers, rounded one by one."""
        return self.block == 1


class Encoded(NamedTuple):
    """How one tensor is written; `reason` says why not as asked, where that is no rule but a necessity."""

    type: GGMLQuantizationType
    reason: str = ""


@functools.cache
def encodings() -> Mapping[str, Encoding]:
    """What can be written, widest first; names are small letters, as the command line has them."""
    found = {}
    for kind in GGMLQuantizationType:
        block, size = GGML_QUANT_SIZES[kind]
        file_type = FILE_TYPES.get(kind.name, f"MOSTLY_{kind.name}")
        if file_type in LlamaFileType.__members__ and _can_make(kind):
            found[kind.name.lower()] = Encoding(kind.name, kind, LlamaFileType[file_type], block, 8 * size / block)
    return dict(sorted(found.items(), key=lambda item: -item[1].bits))


def find_encoding(name: str) -> Encoding:
    """The encoding of that name.

    Raises:
        RhapsodeError: nothing here makes it.
    """
    known = encodings()
    if name.lower() not in known:
        raise RhapsodeError(f"a GGUF file cannot be written as {name!r}", f"choose one of {', '.join(known)}")
    return known[name.lower()]


def encoded_as(name: str, shape: tuple[int, ...], encoding: Encoding) -> Encoded:
    """How the tensor `name` of a GGUF file is written where the file is to be in `encoding`."""
    if len(shape) == 1 or "_norm." in name or name.endswith(ALWAYS_F32):
        return Encoded(GGMLQuantizationType.F32)
    kind = encoding.type
    if name in VOCABULARY and encoding.bits < GGML_Q8.bits:
        kind = GGML_Q8.type
    if shape[-1] % GGML_QUANT_SIZES[kind][0] == 0:
        return Encoded(kind)
    wider = GGML_Q8.type if shape[-1] % GGML_Q8.block == 0 else GGMLQuantizationType.F16
    return Encoded(wider, f"rows of {shape[-1]} are no multiple of {GGML_QUANT_SIZES[kind][0]}")


def encode(tensor: Array, kind: GGMLQuantizationType, *, name: str) -> Array:
    """The bytes of a float32 tensor, as rows.

    Raises:
        RhapsodeError: it holds a number that the encoding cannot.
    """
    largest = max(float(tensor.max()), -float(tensor.min()))
    if not np.isfinite(largest):
        raise RhapsodeError(f"{name} holds numbers that are not finite", "the model is broken; export another")
    if kind not in (GGMLQuantizationType.F32, GGMLQuantizationType.BF16) and largest > LARGEST_HALF:
        raise RhapsodeError(
            f"{name} holds {largest:.3g}, which {kind.name} has no room for", "export with --encoding bf16 or f32"
        )
    made: Array = quantize(np.ascontiguousarray(tensor, np.float32), kind)
    return made


def decode(data: Array, kind: GGMLQuantizationType) -> Array:
    """The float32 numbers that a reader gets from what `encode` made."""
    numbers: Array = dequantize(data, kind)
    return numbers


def _can_make(kind: GGMLQuantizationType) -> bool:
    try:
        quantize(np.zeros((1, GGML_QUANT_SIZES[kind][0]), np.float32), kind)
    except NotImplementedError:
        return False
    return True


GGML_Q8 = Encoding("Q8_0", GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0, 32, 8.5)
