"""What a loss function gives: sums, and of how many things, so that any split of a step into parts adds up."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from torch import Tensor


class Loss(NamedTuple):
    """A loss as the sum of `num_terms` terms: of answers, pairs of them, or tokens, as its function says.

    Attributes:
        total: with the gradient.
        measures: for the curves; sums over the same terms, or over what their name says, without gradient.
        tokens: that were learned from, where these are not the terms.
    """

    total: Tensor
    num_terms: int
    measures: Mapping[str, Tensor] = MappingProxyType({})
    tokens: int | None = None

    @property
    def num_tokens(self) -> int:
        """The tokens that were learned from."""
        return self.num_terms if self.tokens is None else self.tokens
