"""Log-probabilities under the model's own distribution: of chosen tokens and of given ones.

Shapes: n tokens of a chunk, D width, V vocabulary.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from rhapsode.engine.output import Alternative, Scored
from rhapsode.model.decoder import Decoder

ROWS = 64
"""Rows of the vocabulary projection at a time: a long prompt needs no [n,V] of memory."""


def score(scores_V: Tensor, token: int, *, top: int) -> Scored:
    """The token with its log-probability and the `top` likeliest tokens."""
    return _score_rows(scores_V[None], [token], top=top)[0]


class PromptScores:
    """Collects the log-probabilities of a prompt's tokens among `num_ids`, chunk by chunk; a chunk may come twice."""

    def __init__(self, prompt: Sequence[int], *, top: int, num_ids: int) -> None:
        self._prompt = list(prompt)
        self._top, self._num_ids = top, num_ids
        self._scored = [Scored(token) for token in prompt]

    @property
    def scored(self) -> tuple[Scored, ...]:
        return tuple(self._scored)

    def read(self, model: Decoder, hidden_nD: Tensor, *, start: int) -> None:
        """The hidden states at positions `start`, `start` + 1, ... score the tokens one place further on."""
        useful = min(len(hidden_nD), len(self._prompt) - 1 - start)
        for first in range(0, useful, ROWS):
            last = min(first + ROWS, useful)
            places = slice(start + first + 1, start + last + 1)
            scores_nV = model.logits(hidden_nD[first:last])[:, : self._num_ids]
            self._scored[places] = _score_rows(scores_nV, self._prompt[places], top=self._top)


def _score_rows(scores_nV: Tensor, tokens: Sequence[int], *, top: int) -> list[Scored]:
    logprobs_nV = torch.log_softmax(scores_nV, -1)
    index_n1 = torch.tensor(tokens, device=scores_nV.device)[:, None]
    chosen = logprobs_nV.gather(-1, index_n1).squeeze(-1).tolist()
    best = logprobs_nV.topk(min(top, logprobs_nV.shape[-1]))
    tops = (
        tuple(map(Alternative, ids, values))
        for ids, values in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    )
    return [Scored(token, logprob, row) for token, logprob, row in zip(tokens, chosen, tops, strict=True)]
