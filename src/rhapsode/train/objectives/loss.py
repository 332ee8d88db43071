"""What a loss function gives: sums, and of how many things, so that any split of a step into parts adds up."""

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor


class Loss(NamedTuple):
    """A loss as the sum of `num_terms` terms: of answers, pairs of them, or tokens, as its function says.

    Attributes:
        total: with the gradient.
        measures: for the curves; sums over the same terms, or over what their name says, without gradient.
    """

    total: Tensor
    num_terms: int
    measures: Mapping[str, Tensor]
