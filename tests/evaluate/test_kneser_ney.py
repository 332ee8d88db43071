"""The baseline is the textbook's model, and a probability distribution."""

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rhapsode.evaluate import kneser_ney

BOS, EOS = 0, 1
Gram = tuple[int, ...]


class Textbook:
    """Interpolated modified Kneser-Ney as written on paper: counters and recursion."""

    def __init__(self, documents: Sequence[Sequence[int]], *, vocab_size: int, order: int) -> None:
        self.vocab_size, self.order = vocab_size, order
        raw: Counter[Gram] = Counter()
        neighbours: defaultdict[Gram, set[int]] = defaultdict(set)
        for ids in documents:
            for n in range(1, order + 1):
                for i in range(len(ids) - n + 1):
                    gram = tuple(ids[i : i + n])
                    if gram != (BOS,):
                        raw[gram] += 1
                        neighbours[gram[1:]].add(gram[0])
        self.counts = {
            gram: times if len(gram) == order or gram[0] == BOS else len(neighbours[gram])
            for gram, times in raw.items()
        }
        self.discounts = {
            n: (0.0, *kneser_ney.discounts(np.array([c for g, c in self.counts.items() if len(g) == n])))
            for n in range(1, order + 1)
        }

    def probability(self, token: int, context: Gram) -> float:
        context = context[-(self.order - 1) :]
        return self._at(token, context)

    def _at(self, token: int, context: Gram) -> float:
        discount = self.discounts[len(context) + 1]
        after = {w: self.counts[(*context, w)] for w in range(self.vocab_size) if (*context, w) in self.counts}
        shorter = self._at(token, context[1:]) if context else 1 / self.vocab_size
        if not after:
            return shorter
        total = sum(after.values())
        freed = sum(discount[min(count, 3)] for count in after.values())
        count = after.get(token, 0)
        return (count - discount[min(count, 3)] + freed * shorter) / total


def join(documents: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    lengths = [len(ids) for ids in documents]
    return np.concatenate([np.array(ids, np.int32) for ids in documents]), np.cumsum([0, *lengths[:-1]])


def with_bounds(documents: Sequence[Sequence[int]]) -> list[list[int]]:
    return [[BOS, *ids, EOS] for ids in documents]


VOCAB = 7
texts = st.lists(st.integers(2, VOCAB - 1), max_size=30)
corpora = st.lists(texts, min_size=1, max_size=12).map(with_bounds)


@settings(max_examples=60, deadline=None)
@given(corpora, st.lists(texts, min_size=1, max_size=3).map(with_bounds), st.integers(2, 5))
def test_equals_the_textbook(train: list[list[int]], held_out: list[list[int]], order: int) -> None:
    model = kneser_ney.train(*join(train), vocab_size=VOCAB, order=order)
    textbook = Textbook(train, vocab_size=VOCAB, order=order)
    expected = [
        1.0 if i == 0 else textbook.probability(ids[i], tuple(ids[:i])) for ids in held_out for i in range(len(ids))
    ]
    assert model.probabilities(*join(held_out)) == pytest.approx(expected, rel=1e-9)


@settings(max_examples=100, deadline=None)
@given(corpora, st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=6), st.integers(2, 5))
def test_probabilities_sum_to_one_after_any_context(train: list[list[int]], context: list[int], order: int) -> None:
    model = kneser_ney.train(*join(train), vocab_size=VOCAB, order=order)
    every_next = [[*context, token] for token in range(VOCAB)]
    ids, starts = join(every_next)
    next_token = model.probabilities(ids, starts)[starts + len(context)]
    assert next_token.sum() == pytest.approx(1)
    assert (next_token > 0).all()


def test_beats_chance_and_a_longer_context_helps() -> None:
    rng = np.random.default_rng(0)
    follows = rng.integers(2, 64, size=(64, 64, 3))

    def text() -> list[int]:
        ids = [BOS, 2]
        while len(ids) < 200:
            ids.append(int(follows[ids[-2], ids[-1], rng.integers(3)]))
        return [*ids, EOS]

    train, held_out = [text() for _ in range(400)], [text() for _ in range(10)]
    ids, starts = join(held_out)
    bits = {
        order: -np.log2(kneser_ney.train(*join(train), vocab_size=64, order=order).probabilities(ids, starts)).mean()
        for order in (2, 3)
    }
    assert bits[3] < bits[2] < np.log2(64)
    assert bits[3] < np.log2(3) + 1.0


def test_discounts_are_those_of_chen_and_goodman() -> None:
    counts = np.repeat([1, 2, 3, 4, 9], [40, 12, 6, 3, 5])
    y = 40 / (40 + 2 * 12)
    assert kneser_ney.discounts(counts) == pytest.approx((1 - 2 * y * 12 / 40, 2 - 3 * y * 6 / 12, 3 - 4 * y * 3 / 6))


@pytest.mark.parametrize("counts", [[], [1], [2, 2, 3], [1, 2, 3, 3, 3, 3, 3]])
def test_too_few_counts_fall_back_to_usual_discounts(counts: list[int]) -> None:
    assert kneser_ney.discounts(np.array(counts, dtype=int)) == kneser_ney.USUAL_DISCOUNTS


@settings(max_examples=30, deadline=None)
@given(corpora, texts, st.integers(2, 5))
def test_one_token_may_be_both_the_beginning_and_the_end(
    train: list[list[int]], context: list[int], order: int
) -> None:
    """As in vocabularies from elsewhere: every token still has a probability, and they add up to one."""
    joined = join([[EOS, *ids[1:]] for ids in train])
    model = kneser_ney.train(*joined, vocab_size=VOCAB, order=order)
    after = [model.probabilities(*join([[EOS, *context, token]]))[-1] for token in range(VOCAB)]
    assert min(after) > 0
    assert sum(after) == pytest.approx(1)
