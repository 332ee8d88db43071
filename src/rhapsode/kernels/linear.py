"""x W^T + b, by the faster of torch's two libraries where it matters.

In float32 torch asks MKL, which on some processors (AMD's) takes a path without their widest instructions: for one
token it reads weights at half the speed of memory. oneDNN, which torch brings along for bfloat16, does not; torch has
no public name for it in float32, and no gradient, so it serves inference alone.

Shapes: x [..., I], weight [O, I], bias [O].
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def linear_plain(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """The specification."""
    return F.linear(x, weight, bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x [..., I] -> [..., O]."""
    if not _suits_onednn(x, weight):
        return linear_plain(x, weight, bias)
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return out


def _suits_onednn(x: Tensor, weight: Tensor) -> bool:
    is_float32 = x.dtype == weight.dtype == torch.float32
    is_here = x.device.type == "cpu" and torch.backends.mkldnn.is_available()
    return is_float32 and is_here and x.numel() > 0 and not torch.is_grad_enabled()
