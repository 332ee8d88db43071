"""What is nearly the same is found: exactly the pairs that a comparison of all with all finds."""

import math
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from rhapsode.corpus.examples.alike import Index, features

TEXTS = st.lists(
    st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=6).map(" ".join),
    max_size=8,
)


def share(one: str, other: str, *, among: list[str], held: list[str]) -> float:
    """The plain twin: a word that n of N texts have weighs log((1 + N) / (1 + n)); none counts that no held-out has."""

    def of(text: str) -> set[str]:
        words = text.split()
        return {*words, *(f"{a} {b}" for a, b in pairwise(words))}

    known = set().union(*map(of, held))

    def weight(part: set[str]) -> float:
        counts = [sum(word in of(text) for text in among) if word in known else 0 for word in part]
        return sum(math.log((1 + len(among)) / (1 + count)) for count in counts)

    either = weight(of(one) | of(other))
    return weight(of(one) & of(other)) / either if either else 0.0


@given(TEXTS, TEXTS, st.sampled_from([0.3, 0.5, 0.8, 1.0]))
def test_none_is_missed_and_none_is_guessed(held: list[str], others: list[str], least: float) -> None:
    index = Index(held, least=least)
    for text in others:
        index.count(features(text))
    for text in others:
        shares = [share(text, one, among=held + others, held=held) for one in held]
        found = index.find(features(text))
        if found is None:
            assert all(value < least + 1e-9 for value in shares)
        else:
            assert found.share >= least
            assert abs(shares[found.place] - found.share) < 1e-9
            assert found.share >= max(shares) - 1e-9


def test_what_all_have_in_common_weighs_nothing() -> None:
    """A long instruction does not make other questions alike, nor a short one equal ones different."""
    asked = "Say in one word which of these colours the ship has: red, green, blue. The ship is number {}"
    texts = [asked.format(n) for n in range(50)]
    index = Index(texts[:10], least=0.5)
    for text in texts[10:]:
        index.count(features(text))
    assert all(index.find(features(text)) is None for text in texts[10:])
    found = index.find(features(texts[3].upper()))
    assert found is not None
    assert (found.place, found.share) == (3, 1.0)
