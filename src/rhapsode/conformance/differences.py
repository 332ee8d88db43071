"""How far the scores that a reader gives are from the evidence, and how far they may be.

Shapes: R rows, K best scores of each, V vocabulary.
"""

from typing import Any, NamedTuple

import numpy as np

from rhapsode.conformance.evidence import TopScores
from rhapsode.conformance.readers.reader import Scores

USUAL_SCORE = 32.0
"""Scores beyond it, of either sign, may differ by as much more: floating point keeps digits, not decimals."""


class Bounds(NamedTuple):
    """What a reader is held to.

    Attributes:
        score: largest difference of a score; None where a reader rounds weights or sums, and is held to `divergence`.
        divergence: largest median of the Kullback-Leibler divergence of its distributions from ours, in nats.
        tie: two tokens that are closer than this in nats may change places in what it says.
        guards_content: what users write is never read as a special token.
        adds_ends: it may end an answer at more tokens than the model names; llama.cpp knows some by their spelling.
    """

    score: float | None
    divergence: float
    tie: float
    guards_content: bool = False
    adds_ends: bool = False


OWN = Bounds(score=5e-4, divergence=1e-6, tie=2e-3, guards_content=True)
"""Our engine: the same arithmetic in another order; 1.6e-4 was seen on Gemma 3 270M."""
FLOAT32 = Bounds(score=1e-3, divergence=1e-5, tie=1e-2)
"""Another program that computes in float32."""
ROUNDED = Bounds(score=None, divergence=0.1, tie=1.0, adds_ends=True)
"""Weights that may have been quantised, sums that may be rounded: only what breaks a model is told from rounding."""


class Difference(NamedTuple):
    """Of the rows of one case: [R] largest difference of a score, scaled by how large scores are; [R] divergences."""

    scores: np.ndarray[Any, np.dtype[np.float64]]
    divergences: np.ndarray[Any, np.dtype[np.float64]]


def compare(expected: TopScores, found_RV: Scores) -> Difference:
    """What is left of each distribution beside its K best is one outcome: the divergence is that or more.

    Scores that are not numbers are infinitely far from any.
    """
    found_RV = found_RV.astype(np.float64)
    best_RK = expected.scores.astype(np.float64)
    found_RK = np.take_along_axis(found_RV, expected.ids.astype(np.int64), axis=1)
    with np.errstate(invalid="ignore"):
        sums_R = np.logaddexp.reduce(found_RV, axis=1)
        apart_RK = np.concatenate([found_RK - best_RK, (sums_R - expected.log_sums)[:, None]], axis=1)
        scale_R = np.maximum(1.0, np.abs(best_RK).max(axis=1) / USUAL_SCORE)
        differences_R = np.nan_to_num(np.abs(apart_RK).max(axis=1) / scale_R, nan=np.inf)
        divergences_R = _divergence(best_RK - expected.log_sums[:, None], found_RK - sums_R[:, None])
    return Difference(differences_R, np.nan_to_num(divergences_R, nan=np.inf))


def _divergence(p_RK: np.ndarray[Any, np.dtype[np.float64]], q_RK: np.ndarray[Any, np.dtype[np.float64]]) -> Any:
    p_rest_R, q_rest_R = (np.clip(1 - np.exp(logs).sum(1), 1e-9, None) for logs in (p_RK, q_RK))
    return np.maximum((np.exp(p_RK) * (p_RK - q_RK)).sum(1) + p_rest_R * np.log(p_rest_R / q_rest_R), 0.0)
