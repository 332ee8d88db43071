"""From tokens to answers: a packed batch holds many, and each is judged as a whole.

Shapes: N tokens, S answers. sequence [N] says which answer a token belongs to, from 0 on; NONE is no answer at all,
such as a prompt or padding.
"""

import torch
from torch import Tensor

from rhapsode.core.errors import RhapsodeError

NONE = -1


def sequence_sums(values_N: Tensor, sequence_N: Tensor, count: int) -> Tensor:
    """[S]: the values of each answer's tokens added up; 0 for an answer without any.

    Raises:
        RhapsodeError: a token belongs to an answer that is not among the `count`.
    """
    values_N, sequence_N = values_N.flatten(), sequence_N.flatten()
    if len(sequence_N) and int(sequence_N.max()) >= count:
        raise RhapsodeError(
            f"a token belongs to answer {int(sequence_N.max())}, but there are only {count}, counted from 0",
            "number the answers of a batch from 0 without holes",
        )
    kept = sequence_N >= 0
    return values_N.new_zeros(count).index_add(0, sequence_N[kept], values_N[kept])


def sequence_lengths(sequence_N: Tensor, count: int) -> Tensor:
    """[S] int64: how many tokens each answer has."""
    return sequence_sums(torch.ones_like(sequence_N), sequence_N, count)


def sequence_means(values_N: Tensor, sequence_N: Tensor, count: int) -> Tensor:
    """[S]: the mean over each answer's tokens.

    Raises:
        RhapsodeError: an answer has no token, and so no mean.
    """
    lengths_S = sequence_lengths(sequence_N, count)
    if count and int(lengths_S.min()) == 0:
        empty = (lengths_S == 0).nonzero().flatten().tolist()
        raise RhapsodeError(
            f"answers without a token have no mean: number {', '.join(map(str, empty[:10]))} of {count} in the batch",
            "leave empty answers out, or end each with its end-of-turn token",
        )
    return sequence_sums(values_N, sequence_N, count) / lengths_S
