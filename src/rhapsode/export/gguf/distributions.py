"""Next-token distributions of two readers, and how far apart they are.

The measure is the Kullback-Leibler divergence, in nats: what it costs to expect the one where the other is true.

Shapes: T places, V vocabulary.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from rhapsode.kernels.attention import DenseAttend
from rhapsode.model.decoder import Decoder

Scores = np.ndarray[Any, np.dtype[np.float32]]
Logs = np.ndarray[Any, np.dtype[np.float64]]


class Distance(NamedTuple):
    """Over many distributions: the median and the largest divergence, and how often the likeliest token is the same."""

    places: int
    median: float
    largest: float
    agreement: float

    def as_json(self) -> dict[str, float]:
        return {"places": self.places, "median": self.median, "largest": self.largest, "agreement": self.agreement}


@torch.no_grad()
def decoder_scores(model: Decoder, ids: Sequence[int], *, last: int) -> Scores:
    """Scores [last, V] of what follows each of the `last` tokens of `ids`."""
    ids_1T = torch.tensor([ids])
    attend = DenseAttend(torch.ones_like(ids_1T), dtype=model.embedding.weight.dtype)
    hidden_1TD = model(ids_1T, torch.arange(len(ids))[None], attend=attend)
    scores: Scores = model.logits(hidden_1TD[0, -last:]).numpy()
    return scores


def distance(expected: Iterable[Scores], found: Iterable[Scores]) -> Distance:
    """Compare scores [T, V], text by text; their shapes agree."""
    divergences, same = [], []
    for ours, theirs in zip(expected, found, strict=True):
        divergences.append(divergence(ours, theirs))
        same.append(ours.argmax(-1) == theirs.argmax(-1))
    every, agreed = np.concatenate(divergences), np.concatenate(same)
    return Distance(len(every), float(np.median(every)), float(every.max()), float(agreed.mean()))


def divergence(expected_TV: Scores, found_TV: Scores) -> Logs:
    """[T] divergences of the distributions that scores stand for."""
    p_TV, q_TV = _log_softmax(expected_TV), _log_softmax(found_TV)
    total_T: Logs = np.maximum((np.exp(p_TV) * (p_TV - q_TV)).sum(-1), 0.0)
    return total_T


def _log_softmax(scores_TV: Scores) -> Logs:
    shifted_TV = scores_TV.astype(np.float64) - scores_TV.max(-1, keepdims=True)
    values: Logs = shifted_TV - np.log(np.exp(shifted_TV).sum(-1, keepdims=True))
    return values
