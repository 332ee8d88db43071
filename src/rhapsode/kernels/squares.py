"""The sum of all squares of many tensors, for the norm of a gradient.

In float64: however numbers are divided among tensors and ranks, it comes out alike. Torch would widen them in memory
first, five times the bytes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from rhapsode.kernels import native

BLOCK = 1 << 16
"""Numbers that are summed at once: few enough to need no memory worth speaking of."""


def squares_plain(tensors: Sequence[Tensor]) -> float:
    """The specification."""
    blocks = (block for tensor in tensors for block in tensor.reshape(-1).split(BLOCK))
    norms = [torch.linalg.vector_norm(block.double()) for block in blocks]
    return float(torch.stack(norms).square().sum()) if norms else 0.0


def squares(tensors: Sequence[Tensor]) -> float:
    """As `squares_plain`, in C where all lie in this machine's memory in float32."""
    if not native.is_here() or not all(map(native.is_dense_float32, tensors)):
        return squares_plain(tensors)
    sums = [torch.empty(-(-tensor.numel() // BLOCK), dtype=torch.float64) for tensor in tensors]
    for tensor, found in zip(tensors, sums, strict=True):
        native.call("squares", tensor, tensor.numel(), BLOCK, found)
    return float(torch.cat(sums).sum()) if sums else 0.0
