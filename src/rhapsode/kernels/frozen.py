"""Matrices that never change: kept in few bits, and widened one at a time where they compute.

What is trained beside a frozen matrix leaves it as it is, so it may lie in memory in eight bits a number or in four
(QLoRA, Dettmers et al. 2023, arXiv:2305.14314). `dense` gives the numbers that compute, in memory that is let go after
one product: the forward and the backward pass each ask anew, and a model never has two widened matrices at once.

The buffers are whole numbers, scales included, which lie there as the bits of bfloat16: `module.to(dtype)` changes
what computes and must leave them alone.

Shapes: O rows, I columns, G groups of 32 columns.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rhapsode.kernels.storage import Storage

GROUP = 32
HALF = GROUP // 2


class FrozenMatrix(Protocol):
    """A matrix [O,I] that takes part in products and is never trained."""

    @property
    def shape(self) -> tuple[int, int]: ...

    @property
    def num_bytes(self) -> int:
        """What it takes while nothing computes."""
        ...

    def dense(self, dtype: torch.dtype) -> Tensor:
        """The matrix in the type that computes; not to be kept, nor written to."""
        ...


class Whole:
    """A matrix that lies there as it computes."""

    def __init__(self, weight: Tensor) -> None:
        self._weight = weight

    @property
    def shape(self) -> tuple[int, int]:
        rows, columns = self._weight.shape
        return rows, columns

    @property
    def num_bytes(self) -> int:
        return self._weight.nbytes

    def dense(self, dtype: torch.dtype) -> Tensor:
        return self._weight.detach().to(dtype)


class StoredMatrix(nn.Module):
    """What the kinds of storage have in common."""

    def __init__(self, shape: torch.Size) -> None:
        super().__init__()
        rows, columns = shape
        self.shape = rows, columns

    @property
    def num_bytes(self) -> int:
        return sum(buffer.nbytes for buffer in self.buffers())

    def dense(self, dtype: torch.dtype) -> Tensor:
        raise NotImplementedError


class Bf16Matrix(StoredMatrix):
    """Rounded to bfloat16: exact for weights that were published so, whatever type computes."""

    bits: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__(weight.shape)
        self.register_buffer("bits", weight.detach().bfloat16().view(torch.int16))

    def dense(self, dtype: torch.dtype) -> Tensor:
        return self.bits.view(torch.bfloat16).to(dtype)


class Int8Matrix(StoredMatrix):
    """Eight bits a number and one scale a row, whose largest number is 127 steps from nothing."""

    steps: Tensor
    scales: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__(weight.shape)
        wide = weight.detach().float()
        scale = (wide.abs().amax(1, keepdim=True) / 127).bfloat16()
        self.register_buffer("steps", _steps(wide, scale).clamp_(-127, 127).to(torch.int8))
        self.register_buffer("scales", scale.view(torch.int16))

    def dense(self, dtype: torch.dtype) -> Tensor:
        return self.steps.to(dtype).mul_(self.scales.view(torch.bfloat16))


class Int4Matrix(StoredMatrix):
    """Four bits a number and one scale a group of 32 columns: 4.5 bits a number in all.

    There are eight steps below nothing and seven above, so the scale bears the sign that puts a group's largest number
    among the eight. Two numbers share a byte: those of a group's first half lie in the lower bits.
    """

    pairs: Tensor
    scales: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__(weight.shape)
        wide = F.pad(weight.detach().float(), (0, -weight.shape[1] % GROUP)).unflatten(1, (-1, GROUP))
        scale = (wide.gather(-1, wide.abs().argmax(-1, keepdim=True)) / -8).bfloat16()
        steps = _steps(wide, scale).add_(8).clamp_(0, 15).to(torch.uint8)
        self.register_buffer("pairs", steps[..., :HALF] | steps[..., HALF:] << 4)
        self.register_buffer("scales", scale.view(torch.int16))

    def dense(self, dtype: torch.dtype) -> Tensor:
        out_OGC = torch.empty(*self.pairs.shape[:-1], GROUP, dtype=dtype, device=self.pairs.device)
        out_OGC[..., :HALF] = self.pairs & 15
        out_OGC[..., HALF:] = self.pairs >> 4
        out_OGC.sub_(8).mul_(self.scales.view(torch.bfloat16))
        return out_OGC.flatten(1)[:, : self.shape[1]]


STORAGES: Mapping[Storage, type[Bf16Matrix | Int8Matrix | Int4Matrix]] = MappingProxyType(
    {"bf16": Bf16Matrix, "int8": Int8Matrix, "int4": Int4Matrix}
)


def store(weight: Tensor, storage: Storage) -> StoredMatrix:
    """A weight [O,I], rounded to what `storage` can hold."""
    return STORAGES[storage](weight)


def _steps(wide: Tensor, scale: Tensor) -> Tensor:
    """How many steps of its scale each number is from nothing; a scale of nothing stands for nothing but zeros."""
    return (wide / scale.float().masked_fill_(scale == 0, 1)).round_()
