"""AdamW (Loshchilov and Hutter 2019) over many tensors, and the sum of the gradients that it moves them by.

An update reads four numbers a parameter and writes three: 28 bytes, and nothing but memory's speed limits it. Torch's
chain of operators moves four times as much. In C it is one pass.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rhapsode.kernels import native


class Adam(NamedTuple):
    """Numbers of one update, the corrections of the moments' start included.

    Attributes:
        beta1, beta2: how much of the moments stays.
        rate: the learning rate over 1 - beta1^steps.
        spread: one over the root of 1 - beta2^steps.
        eps: added to the root of the second moment.
    """

    beta1: float
    beta2: float
    rate: float
    spread: float
    eps: float


def adamw_plain(
    values: Sequence[Tensor],
    firsts: Sequence[Tensor],
    seconds: Sequence[Tensor],
    grads: Sequence[Tensor],
    keeps: Sequence[float],
    adam: Adam,
) -> None:
    """The specification: moves `values` and both moments in place; `keeps` is what decay leaves of each value."""
    values, firsts, seconds, grads = map(list, (values, firsts, seconds, grads))  # what torch asks for
    torch._foreach_lerp_(firsts, grads, 1 - adam.beta1)
    torch._foreach_mul_(seconds, adam.beta2)
    torch._foreach_addcmul_(seconds, grads, grads, 1 - adam.beta2)
    roots = torch._foreach_sqrt(seconds)
    torch._foreach_mul_(roots, adam.spread)
    torch._foreach_add_(roots, adam.eps)
    torch._foreach_mul_(values, list(keeps))
    torch._foreach_addcdiv_(values, firsts, roots, -adam.rate)


def adamw(
    values: Sequence[Tensor],
    firsts: Sequence[Tensor],
    seconds: Sequence[Tensor],
    grads: Sequence[Tensor],
    keeps: Sequence[float],
    adam: Adam,
) -> None:
    """As `adamw_plain`, in C where all lie in this machine's memory in float32."""
    tensors = [*values, *firsts, *seconds, *grads]
    if not all(map(native.is_dense_float32, tensors)) or not native.is_here():
        adamw_plain(values, firsts, seconds, grads, keeps, adam)
        return
    for value, first, second, grad, keep in zip(values, firsts, seconds, grads, keeps, strict=True):
        numbers = (adam.beta1, adam.beta2, keep, adam.rate, adam.spread, adam.eps)
        native.call("adamw", value, first, second, grad, value.numel(), *numbers)


def accumulate(total: Tensor, grad: Tensor) -> None:
    """Add `grad`, of any type, to `total` in place."""
    if native.is_dense_float32(total) and native.suits(grad) and grad.is_contiguous():
        native.call("accumulate", total, grad, total.numel())
    else:
        total.add_(grad)
