"""Figures of texts are those of the packages that others use."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from rhapsode.evaluate.scorers.json_fields import json_fields
from rhapsode.evaluate.scorers.registry import scorer
from rhapsode.evaluate.scorers.words import f1

ANSWERS = ["The cat sat on the mat.", "A dog, barking!", "", "Zwei Kinder spielen im Schnee.", "no idea whatsoever ."]
WANTED = [
    "A cat sat on a mat.",
    "The dog barks.",
    "Nothing is here.",
    "Zwei Kinder spielen im hohen Schnee.",
    "I do not know.",
]
words = st.lists(
    st.sampled_from(("the", "a", "cat", "sat", "on", "mat", "dog,", "ran.", "Far", "away")), min_size=1, max_size=9
).map(" ".join)


@pytest.mark.parametrize(("name", "metric"), [("bleu", BLEU()), ("chrf", CHRF())])
def test_a_set_has_the_figure_of_sacrebleu(name: str, metric: BLEU | CHRF) -> None:
    judge = scorer(name)
    counts = judge.judge(ANSWERS, WANTED).counts
    assert judge.figure(counts.sum(axis=0)) == pytest.approx(metric.corpus_score(ANSWERS, [WANTED]).score / 100)
    some = [0, 1, 1, 3]
    again = metric.corpus_score([ANSWERS[i] for i in some], [[WANTED[i] for i in some]]).score / 100
    assert judge.figure(counts[some].sum(axis=0)) == pytest.approx(again)


@pytest.mark.parametrize(("name", "metric"), [("bleu", BLEU(effective_order=True)), ("chrf", CHRF())])
@given(answer=words, wanted=words)
def test_one_answer_has_the_score_of_sacrebleu(name: str, metric: BLEU | CHRF, answer: str, wanted: str) -> None:
    assert scorer(name).score(answer, wanted) == pytest.approx(metric.sentence_score(answer, [wanted]).score / 100)


@pytest.mark.parametrize("kind", ["rouge1", "rouge2", "rougeL"])
@given(answer=words, wanted=words)
def test_rouge_is_the_packages_own_for_ascii(kind: str, answer: str, wanted: str) -> None:
    assert scorer(kind).score(answer, wanted) == pytest.approx(RougeScorer([kind]).score(wanted, answer)[kind].fmeasure)


def test_rouge_leaves_words_of_other_languages_whole() -> None:
    assert scorer("rouge1").score("blåbær på fjellet", "blåbær") == pytest.approx(0.5)
    assert scorer("rougeL").score("дом стоит", "дом стоит") == 1


@pytest.mark.parametrize(
    ("answer", "wanted", "score"),
    [
        ("the Norman dynasty!", "Norman", 2 / 3),
        ("in 1066", "1066", 2 / 3),
        ("a", "the", 1.0),
        ("", "", 1.0),
        ("", "x", 0.0),
        ("x x y", "x y y", 2 / 3),
        ("theatre", "atre", 0.0),
    ],
)
def test_words_in_common_as_in_squad(answer: str, wanted: str, score: float) -> None:
    assert f1(answer, wanted) == pytest.approx(score)


@pytest.mark.parametrize(
    ("answer", "wanted", "score"),
    [
        ('{"b": 1.0, "a": "x "}', '{"a": "x", "b": 1}', 1.0),
        ('```json\n{"a": 1}\n```', '{"a": 1}', 1.0),
        ('{"a": 1}', '{"a": true}', 0.0),
        ('{"a": "1"}', '{"a": 1}', 0.0),
        ('{"a": [2, 1]}', '{"a": [1, 2, 3]}', 4 / 5),
        ('{"a": {"b": 1}}', '{"b": 1}', 0.0),
        ('{"a": 1, "b": 2}', '{"a": 1}', 2 / 3),
        ("[]", "{}", 0.0),
        ("[]", "[]", 1.0),
        ('Here: {"a": 1}', '{"a": 1}', 0.0),
        ('{"a": NaN}', '{"a": null}', 0.0),
        ("[" * 100_000, "[]", 0.0),
    ],
)
def test_fields_of_json_at_their_places(answer: str, wanted: str, score: float) -> None:
    assert json_fields(answer, wanted) == pytest.approx(score)


def test_the_figure_of_a_mean_is_the_mean_of_scores() -> None:
    judge = scorer("f1")
    judged = judge.judge(ANSWERS, WANTED)
    assert judge.figure(judged.counts.sum(axis=0)) == pytest.approx(np.mean(judged.scores))
