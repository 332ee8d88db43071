"""The order of training data as a function: a keyed permutation of the indices, one for each seed and epoch.

Nothing is shuffled in memory and a loader has no state to save: where it was follows from the step number. The
permutation is a Feistel network over the smallest power of two that holds the indices; what lands outside is sent
through again ("cycle walking", Black and Rogaway 2002), which keeps it a bijection.
"""

import hashlib
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

_ROUNDS = 8
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))  # splitmix64's multipliers
_SHIFTS = (np.uint64(30), np.uint64(27), np.uint64(31))


class _Network(NamedTuple):
    """An index is `high` bits above `low` bits; each round replaces one part using the other and a key."""

    low: np.uint64
    low_mask: np.uint64
    high_mask: np.uint64
    keys: tuple[np.uint64, ...]


def permuted(index: int, *, length: int, seed: int, epoch: int) -> int:
    """Which of `length` items comes at place `index` of this epoch.

    Raises:
        IndexError: `index` is not in 0..length-1.
    """
    return int(permutation(index, index + 1, length=length, seed=seed, epoch=epoch)[0])


def permutation(start: int, stop: int, *, length: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """The items at the places start..stop-1: `permuted` of each, at once.

    Raises:
        IndexError: a place is not in 0..length-1.
    """
    if not 0 <= start <= stop <= length:
        raise IndexError(f"places {start} to {stop} of {length} items")
    network = _network(length, seed, epoch)
    places = _walk(np.arange(start, stop, dtype=np.uint64), network)
    while (outside := places >= length).any():
        places[outside] = _walk(places[outside], network)
    return places.astype(np.int64)


@lru_cache(maxsize=64)
def _network(length: int, seed: int, epoch: int) -> _Network:
    bits = max(2, (length - 1).bit_length())
    low = bits // 2
    key = hashlib.blake2b(f"{seed}:{epoch}".encode(), digest_size=8 * _ROUNDS).digest()
    keys = np.frombuffer(key, dtype="<u8").astype(np.uint64)
    return _Network(np.uint64(low), np.uint64(2**low - 1), np.uint64(2 ** (bits - low) - 1), tuple(keys))


def _walk(places: npt.NDArray[np.uint64], network: _Network) -> npt.NDArray[np.uint64]:
    """One pass through the network: a bijection of 0..2**bits-1, whatever `_mixed` gives."""
    high, low = places >> network.low, places & network.low_mask
    for key_low, key_high in zip(network.keys[::2], network.keys[1::2], strict=True):
        low = low ^ (_mixed(high, key_low) & network.low_mask)
        high = high ^ (_mixed(low, key_high) & network.high_mask)
    return (high << network.low) | low


def _mixed(half: npt.NDArray[np.uint64], key: np.uint64) -> npt.NDArray[np.uint64]:
    """splitmix64's finaliser: every bit of the result depends on every bit of `half` and `key`."""
    x = half ^ key
    x = (x ^ (x >> _SHIFTS[0])) * _MIX[0]
    x = (x ^ (x >> _SHIFTS[1])) * _MIX[1]
    return x ^ (x >> _SHIFTS[2])
