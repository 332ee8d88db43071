"""The norms of a decoder as modules."""

import torch
from torch import Tensor, nn

from rhapsode.kernels.norm import rms_norm
from rhapsode.model.spec import ModelSpec, Norm


class RMSNorm(nn.Module):
    """Root-mean-square normalisation over the last dimension."""

    neutral = 1.0

    def __init__(self, size: int, *, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight, self.eps)


class OffsetRMSNorm(RMSNorm):
    """The same with weights counted from one, so that decay pulls them to one (Gemma)."""

    neutral = 0.0

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, 1 + self.weight, self.eps)


class LayerNorm(nn.LayerNorm):
    """Torch's layer norm, its weights left to whoever fills them."""

    neutral = 1.0

    def reset_parameters(self) -> None:
        """Nothing: see `model/initialise.py`."""


def make_norm(spec: ModelSpec, size: int) -> nn.Module:
    """The norm that the family uses, over `size` numbers."""
    kinds: dict[Norm, type[RMSNorm | LayerNorm]] = {"rms": RMSNorm, "rms_offset": OffsetRMSNorm, "layer": LayerNorm}
    return kinds[spec.norm](size, eps=spec.norm_eps)
