import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhapsode.conformance.differences import FLOAT32, OWN, ROUNDED, compare
from rhapsode.conformance.evidence import TopScores
from rhapsode.conformance.readers.reader import Scores

VOCABULARY, TOP = 200, 16


def random_scores(seed: int, *, spread: float = 3.0) -> Scores:
    return np.random.default_rng(seed).normal(0, spread, (5, VOCABULARY)).astype(np.float32)


def evidence_of(scores: Scores) -> TopScores:
    ids = np.argsort(-scores, axis=1)[:, :TOP].astype(np.int32)
    log_sums = np.logaddexp.reduce(scores.astype(np.float64), axis=1).astype(np.float32)
    return TopScores(ids, np.take_along_axis(scores, ids, axis=1), log_sums)


def divergence(p: Scores, q: Scores) -> np.ndarray:
    p, q = (x.astype(np.float64) - np.logaddexp.reduce(x.astype(np.float64), axis=1)[:, None] for x in (p, q))
    return (np.exp(p) * (p - q)).sum(1)


def test_equal_scores_do_not_differ() -> None:
    found = compare(evidence_of(random_scores(0)), random_scores(0))
    assert found.scores.max() < 1e-6
    assert found.divergences.max() < 1e-6


@given(seed=st.integers(0, 1000), noise=st.floats(0.01, 2.0))
def test_the_divergence_is_never_more_than_that_of_the_whole_rows(seed: int, noise: float) -> None:
    ours = random_scores(seed)
    theirs = ours + random_scores(seed + 1, spread=noise)
    found = compare(evidence_of(ours), theirs).divergences
    whole = divergence(ours, theirs)
    assert (found <= whole + 1e-6).all()
    assert (found > whole / 10).all()


def test_what_changes_no_best_score_moves_the_sum() -> None:
    ours = random_scores(0)
    theirs = ours.copy()
    evidence = evidence_of(ours)
    theirs[0, np.setdiff1d(np.arange(VOCABULARY), evidence.ids[0])] -= 5
    assert compare(evidence, theirs).scores[0] > FLOAT32.score


def test_large_scores_may_differ_by_as_much_more() -> None:
    ours = random_scores(0, spread=1000)
    found = compare(evidence_of(ours), ours + np.float32(0.01))
    assert found.scores.max() < 0.001


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_numbers_are_infinitely_far(number: float) -> None:
    ours = random_scores(0)
    theirs = ours.copy()
    theirs[2, evidence_of(ours).ids[2, 0]] = number
    found = compare(evidence_of(ours), theirs)
    assert not found.scores[2] <= 1e6
    assert found.scores[0] < 1e-6


def test_our_own_engine_is_held_to_the_most() -> None:
    assert OWN.score < FLOAT32.score == 1e-3
    assert OWN.tie < FLOAT32.tie < ROUNDED.tie
    assert OWN.guards_content
    assert not FLOAT32.guards_content
