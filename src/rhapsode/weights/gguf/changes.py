"""How numbers change between a Hugging Face directory and a GGUF file. Each change is undone by its other half.

llama.cpp turns queries and keys of some architectures in pairs of neighbours, where Hugging Face turns the first half
of a head with the second; so their rows lie in another order. It adds one to the norms that count from there (Gemma),
and has GPT-2's matrices the usual way round.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

Values = Any  # an array of numpy's or a tensor of torch's: what is done to them has the same name in both


class Change(NamedTuple):
    """Two functions of (values, head_dim), for whole tensors or whole heads of rows.

    Attributes:
        is_by_head: rows may only be given a multiple of head_dim at a time.
        is_whole: the tensor may only be given whole.
    """

    to_disk: Callable[[Values, int], Values]
    to_gguf: Callable[[Values, int], Values]
    is_by_head: bool = False
    is_whole: bool = False


def _as_it_is(values: Values, _: int) -> Values:
    return values


def _neighbours_apart(values: Values, head_dim: int) -> Values:
    """Rows 0 1 2 3 .. of every head become 0 2 .. 1 3 .. ."""
    return values.reshape(-1, head_dim // 2, 2, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)


def _halves_together(values: Values, head_dim: int) -> Values:
    return values.reshape(-1, 2, head_dim // 2, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)


def _turned(values: Values, _: int) -> Values:
    return values.swapaxes(0, 1) if values.ndim == 2 else values


AS_IT_IS = Change(_as_it_is, _as_it_is)
ROTARY = Change(_neighbours_apart, _halves_together, is_by_head=True)
FROM_ONE = Change(lambda values, _: values - 1, lambda values, _: values + 1)
TURNED = Change(_turned, _turned, is_whole=True)
