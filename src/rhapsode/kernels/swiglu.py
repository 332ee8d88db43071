"""The gate of the feed-forward block: silu(gate) * up (Shazeer 2020).

Shapes: gate_up [..., 2F] (the two projections side by side) -> [..., F]. Only the input is kept for the backward pass.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from rhapsode.kernels import native


def swiglu_plain(gate_up: Tensor) -> Tensor:
    gate, up = gate_up.chunk(2, -1)
    return F.silu(gate) * up


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate_up: Tensor) -> Tensor:
        ctx.save_for_backward(gate_up)
        gate, up = gate_up.chunk(2, -1)
        return F.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (gate_up,) = ctx.saved_tensors
        (grad,) = grads
        gate, up = gate_up.chunk(2, -1)
        out = torch.empty_like(gate_up)
        grad_gate, grad_up = out.chunk(2, -1)
        torch.mul(grad, F.silu(gate), out=grad_up)
        torch.ops.aten.silu_backward.grad_input(grad * up, gate, grad_input=grad_gate)
        return out


class _NativeSwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate_up: Tensor) -> Tensor:
        gate_up = gate_up.contiguous()
        ctx.save_for_backward(gate_up)
        size = gate_up.shape[-1] // 2
        out = torch.empty(*gate_up.shape[:-1], size, dtype=gate_up.dtype)
        native.call("swiglu", gate_up, out, gate_up.numel() // (2 * size), size)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (gate_up,) = ctx.saved_tensors
        size = gate_up.shape[-1] // 2
        out = torch.empty_like(gate_up)
        native.call("swiglu_backward", grads[0].contiguous(), gate_up, out, gate_up.numel() // (2 * size), size)
        return out


def swiglu(gate_up: Tensor) -> Tensor:
    """silu(first half) * second half."""
    is_native = native.suits(gate_up)
    if not is_native and not torch.is_grad_enabled():
        return swiglu_plain(gate_up)
    operator = _NativeSwiGLU if is_native else _SwiGLU
    out: Tensor = operator.apply(gate_up)  # type: ignore[no-untyped-call]
    return out
