"""Interpolated modified Kneser-Ney: the strongest model that only counts, and so the yardstick for one that learns.

A token is predicted from the few before it. What was seen rarely is discounted, and the mass that this frees goes to
the next shorter context, whose counts are not of occurrences but of distinct left neighbours (Kneser and Ney 1995;
three discounts an order, Chen and Goodman 1999; n-grams that begin a document keep their occurrences, Heafield et al.
2013).

Nothing loops over tokens. An n-gram is a number: the place of `prefix * V + token` in a sorted table, where `prefix` is
the number of the (n-1)-gram before the token. Counting is sorting, looking up is binary search.

Shapes: N tokens of all documents one after the other, V vocabulary, G distinct n-grams of an order.
"""

from typing import NamedTuple

import numpy as np

from rhapsode.evaluate.arrays import Floats, Ids, Ints

UNSEEN = -1
USUAL_DISCOUNTS = (0.5, 1.0, 1.5)
"""For orders with too few n-grams to estimate them; the values that KenLM falls back to."""


class _Order(NamedTuple):
    """All n-grams of one order above 1.

    Attributes:
        keys: [G] sorted, prefix * V + token.
        share: [G] the discounted count of the n-gram, divided by all counts after its prefix.
        left: [prefixes] the mass that the shorter context gets; 1 after a prefix that nothing was seen to follow.
    """

    keys: Ints
    share: Floats
    left: Floats


class KneserNey(NamedTuple):
    """A trained model. `unigram` [V] sums to 1; `orders` are those of 2, 3, ... tokens."""

    unigram: Floats
    orders: tuple[_Order, ...]

    def probabilities(self, ids_N: Ids, starts: Ints) -> Floats:
        """The probability of every token given those before it in its document.

        Args:
            ids_N: documents one after the other, each with its first token (bos) as context.
            starts: [documents] where each begins.

        Returns:
            [N]; 1 at the first token of a document, which is given and not predicted.
        """
        place_N = _place_in_document(len(ids_N), starts)
        p_N: Floats = self.unigram[ids_N]
        gram_N = ids_N
        for n, order in enumerate(self.orders, start=2):
            # An n-gram's prefix ends one token earlier; a document's first n-1 tokens are too short to end one.
            prefix_N = _shift(gram_N)
            prefix_N[place_N < n - 1] = UNSEEN
            at = np.flatnonzero(prefix_N != UNSEEN)
            prefix = prefix_N[at].astype(np.int64)
            p_N[at] *= order.left[prefix]
            gram_N = np.full(len(ids_N), UNSEEN, np.int32)
            gram_N[at] = _find(order.keys, prefix * len(self.unigram) + ids_N[at])
            seen = gram_N != UNSEEN
            p_N[seen] += order.share[gram_N[seen]]
        p_N[starts] = 1.0
        return p_N


def train(ids_N: Ids, starts: Ints, *, vocab_size: int, order: int = 5) -> KneserNey:
    """Count all n-grams up to `order` tokens.

    Args:
        ids_N: documents one after the other, each [bos] t1..tn [eos]; bos appears nowhere else, unless it is eos.
        starts: [documents] where each begins.
        vocab_size: V; every id below it gets a probability above 0.
        order: tokens of the longest n-gram, 2 or more.
    """
    place_N = _place_in_document(len(ids_N), starts)
    gram_N = ids_N
    occurrences = np.bincount(ids_N, minlength=vocab_size)
    occurrences[ids_N[starts]] = 0
    keys, counts = [np.arange(vocab_size)], [occurrences]
    for n in range(2, order + 1):
        at = np.flatnonzero(place_N >= n - 1)
        found = _number(_shift(gram_N)[at].astype(np.int64) * vocab_size + ids_N[at])
        # One occurrence of each distinct n-gram is one left neighbour of its last n-1 tokens.
        neighbours = np.bincount(gram_N[at[found.examples]], minlength=len(counts[-1]))
        counts[-1] = np.where(neighbours > 0, neighbours, counts[-1])
        keys.append(found.keys)
        counts.append(found.counts)
        gram_N = np.full(len(ids_N), UNSEEN, np.int32)
        gram_N[at] = found.numbers
    orders = (
        _estimate(keys[i], counts[i], vocab_size=vocab_size, prefixes=len(counts[i - 1])) for i in range(1, order)
    )
    return KneserNey(_unigram(counts[0]), tuple(orders))


def discounts(counts: Ints) -> tuple[float, float, float]:
    """What is taken from n-grams counted once, twice, and more often (Chen and Goodman 1999, equation 26)."""
    n1, n2, n3, n4 = (int((counts == times).sum()) for times in (1, 2, 3, 4))
    if 0 in (n1, n2, n3):
        return USUAL_DISCOUNTS
    y = n1 / (n1 + 2 * n2)
    found = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
    is_sane = all(0 < d <= times for times, d in enumerate(found, start=1))
    return found if is_sane else USUAL_DISCOUNTS


def _unigram(counts: Ints) -> Floats:
    """Discounted shares of tokens, and the rest spread evenly, so that no token is impossible."""
    taken = _taken(counts)
    shares: Floats = (counts - taken + taken.sum() / len(counts)) / counts.sum()
    return shares


def _estimate(keys: Ints, counts: Ints, *, vocab_size: int, prefixes: int) -> _Order:
    prefix = keys // vocab_size
    total = np.bincount(prefix, weights=counts, minlength=prefixes)
    taken = _taken(counts)
    freed = np.bincount(prefix, weights=taken, minlength=prefixes)
    left: Floats = np.divide(freed, total, out=np.ones(prefixes), where=total > 0)
    return _Order(keys, (counts - taken) / total[prefix], left)


def _taken(counts: Ints) -> Floats:
    by_count: Floats = np.array([0.0, *discounts(counts)])
    return by_count[np.minimum(counts, 3)]


class _Numbered(NamedTuple):
    """`keys` sorted and distinct; `numbers` the place of each given key; `counts` and one `example` of each."""

    keys: Ints
    numbers: Ids
    counts: Ints
    examples: Ints


def _number(keys: Ints) -> _Numbered:
    order = np.argsort(keys)
    ordered = keys[order]
    is_new = np.empty(len(keys), bool)
    is_new[:1] = True
    np.not_equal(ordered[1:], ordered[:-1], out=is_new[1:])
    numbers = np.empty(len(keys), np.int32)
    numbers[order] = np.cumsum(is_new, dtype=np.int32) - 1
    firsts = np.flatnonzero(is_new)
    return _Numbered(ordered[firsts], numbers, np.diff(firsts, append=len(keys)), order[firsts])


def _find(keys: Ints, wanted: Ints) -> Ids:
    """The place of each wanted key, or UNSEEN."""
    if len(keys) == 0:
        return np.full(len(wanted), UNSEEN, np.int32)
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, place, UNSEEN).astype(np.int32)


def _shift(gram_N: Ids) -> Ids:
    """What ended one token earlier."""
    before = np.empty_like(gram_N)
    before[:1] = UNSEEN
    before[1:] = gram_N[:-1]
    return before


def _place_in_document(length: int, starts: Ints) -> Ints:
    """[N] 0 at the first token of each document, then 1, 2, ..."""
    lengths = np.diff(starts, append=length)
    return np.arange(length) - np.repeat(starts, lengths)
