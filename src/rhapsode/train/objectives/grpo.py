"""Judged answers as an objective: what is better than the others to its prompt becomes likelier.

Each batch of answers is learned from once, by the weights that sampled it. The ratio of the policies is then 1, so no
clip of it is ever reached, and there is none to choose.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from rhapsode.kernels.cross_entropy import IGNORE
from rhapsode.kernels.log_probs import chunked_log_probs
from rhapsode.model.decoder import Decoder
from rhapsode.train.objective import Batch, hidden_states
from rhapsode.train.objectives.loss import Loss
from rhapsode.train.objectives.pairs import Reference
from rhapsode.train.objectives.policy import Clip, Per, policy_gradient

NO_CLIP = Clip(below=1.0, above=float("inf"))


class GroupPolicy:
    """GRPO on its own policy; a term is a token or an answer, as `per` says."""

    __name__ = "grpo"

    def __init__(self, numbers: Mapping[str, Any], *, reference: Reference | None) -> None:
        self._temperature, self._cost = numbers["temperature"], numbers["divergence_cost"]
        self._per: Per = numbers["max_tokens"] if numbers["per"] == "limit" else numbers["per"]
        self._reference = reference
        self.measures: tuple[str, ...] = ("divergence",) if self._cost else ()

    def begin(self, model: Decoder, step: Sequence[Batch]) -> None:
        pass

    def __call__(self, model: Decoder, batch: Batch) -> Loss:
        assert batch.advantages is not None, "answers are judged before they are learned from"
        kept = (batch.targets.flatten() != IGNORE).nonzero().squeeze(1)
        policy_N = self._log_probs(model, batch, kept)
        sequence_N, count = answers_of(batch, kept)
        advantages_S = policy_N.new_zeros(count)
        advantages_S[sequence_N] = batch.advantages.flatten()[kept].to(policy_N.dtype)
        found = policy_gradient(
            policy_N,
            advantages_S,
            sequence_N,
            reference_N=self._before(batch, kept),
            clip=NO_CLIP,
            divergence_cost=self._cost,
            per=self._per,
        )
        return found._replace(tokens=len(kept))

    def _log_probs(self, model: Decoder, batch: Batch, kept: Tensor) -> Tensor:
        """[N]: at the temperature at which they were sampled."""
        hidden, targets = hidden_states(model, batch).flatten(0, 1)[kept], batch.targets.flatten()[kept]
        softcap = model.spec.logit_softcap
        return chunked_log_probs(hidden, model.head.weight, targets, softcap=softcap, temperature=self._temperature)

    @torch.no_grad()
    def _before(self, batch: Batch, kept: Tensor) -> Tensor | None:
        if not self._cost:
            return None
        assert self._reference is not None, "a divergence is one from the model of before"
        with self._reference.context():
            return self._log_probs(self._reference.model, batch, kept)


def answers_of(batch: Batch, kept: Tensor) -> tuple[Tensor, int]:
    """For each of the `kept` targets the number of its answer, a branch of a tree in a row, and how many there are."""
    rows_BT = torch.arange(len(batch.ids), device=batch.ids.device)[:, None].expand_as(batch.ids)
    trees_BT = rows_BT * (batch.documents.max() + 1) + batch.documents
    branches_BT = trees_BT * (batch.branches.max() + 1) + batch.branches
    answers, sequence_N = torch.unique(branches_BT.flatten()[kept], return_inverse=True)
    return sequence_N, len(answers)
