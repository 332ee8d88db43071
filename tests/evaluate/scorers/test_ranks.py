"""Retrieval with one right passage."""

import json
import math

import pytest

from rhapsode.evaluate.scorers.registry import scorer

PASSAGES = [f"passage {n}" for n in range(12)]


@pytest.mark.parametrize(
    ("name", "first", "third", "eleventh"),
    [
        ("recall@1", 1, 0, 0),
        ("recall@5", 1, 1, 0),
        ("recall@10", 1, 1, 0),
        ("mrr", 1, 1 / 3, 0),
        ("ndcg@10", 1, 1 / math.log2(4), 0),
    ],
)
def test_a_passage_is_worth_its_place(name: str, first: float, third: float, eleventh: float) -> None:
    judge, answer = scorer(name), json.dumps(PASSAGES)
    for wanted, expected in ((0, first), (2, third), (10, eleventh)):
        assert judge.score(answer, PASSAGES[wanted]) == pytest.approx(expected)
    for nothing in ("passage 0", '{"passage 0": 1}', "", json.dumps(PASSAGES[1:])):
        assert judge.score(nothing, PASSAGES[0]) == 0


def test_figures_of_a_set_are_means() -> None:
    found = scorer("mrr").judge([json.dumps(PASSAGES)] * 2, [PASSAGES[0], PASSAGES[1]])
    assert float(scorer("mrr").figure(found.counts.sum(axis=0))) == pytest.approx(0.75)
