"""Examples that are nearly the same: few of the words that tell them from all others are not in both.

How alike two are is the weight of the words and pairs of neighbouring words that both have, as a share of the weight
of all that either has. A word weighs the more the fewer examples have it, so instructions that all of a set begin with
weigh next to nothing, and two sums in other numbers are as far apart as they should be. No pair is missed and none is
guessed: two that are alike share one of the rarest of their words, and only such pairs are compared (prefix filtering;
Chaudhuri, Ganti, Kaushik 2006, "A Primitive Operator for Similarity Joins in Data Cleaning").
"""

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

_WORD = re.compile(r"\w+|[^\w\s]")


class Alike(NamedTuple):
    """The one among those that were given to which another is the nearest, by its place; and how alike they are."""

    place: int
    share: float


def features(text: str) -> frozenset[str]:
    """Its words, and pairs of those that follow each other, in small letters."""
    words = _WORD.findall(unicodedata.normalize("NFKC", text).casefold())
    return frozenset((*words, *(f"{one} {other}" for one, other in pairwise(words))))


class Index:
    """Texts in which another is looked for that is nearly the same as one of them.

    Memory grows with these texts alone. Before the first `find`, `count` says how common their words are elsewhere.
    """

    def __init__(self, texts: Iterable[str], *, least: float) -> None:
        """`least` is how alike two must be, above 0 and up to 1."""
        self._least = least
        self._sets: Sequence[frozenset[str]] = [features(text) for text in texts]
        self._known = Counter(feature for found in self._sets for feature in found)
        self._total = len(self._sets)
        self._postings: Mapping[str, Sequence[int]] | None = None

    def count(self, found: frozenset[str]) -> None:
        """Another text that there is, by its features: what it shares with those here is less telling."""
        self._known.update(found & self._known.keys())
        self._total += 1

    def find(self, found: frozenset[str]) -> Alike | None:
        """The nearest that is alike enough; of several that are as near, the first."""
        postings = self._ready()
        places = {place for feature in self._telling(found) for place in postings.get(feature, ())}
        pairs = (Alike(place, self._share(found, self._sets[place])) for place in sorted(places))
        best = max(pairs, key=lambda pair: pair.share, default=None)
        return best if best is not None and best.share >= self._least else None

    def _ready(self) -> Mapping[str, Sequence[int]]:
        if self._postings is None:
            postings = defaultdict(list)
            for place, found in enumerate(self._sets):
                for feature in self._telling(found):
                    postings[feature].append(place)
            self._postings = postings
        return self._postings

    def _weight(self, feature: str) -> float:
        return math.log((1 + self._total) / (1 + self._known.get(feature, 0)))

    def _telling(self, found: frozenset[str]) -> Iterable[str]:
        """Its rarest features: what is alike enough has one of them, for the rest weighs too little."""
        weights = {feature: self._weight(feature) for feature in found}
        left = sum(weights.values())
        enough = self._least * left * (1 - 1e-9)
        for feature in sorted(found, key=lambda one: (-weights[one], one)):
            if left < enough or not weights[feature]:
                return
            yield feature
            left -= weights[feature]

    def _share(self, one: frozenset[str], other: frozenset[str]) -> float:
        shared, either = (sum(map(self._weight, sorted(part))) for part in (one & other, one | other))
        return shared / either if either else 0.0
