"""Noise on embeddings while tuning on instructions (Jain et al. 2023, NEFTune, arXiv:2310.05914).

The noise is uniform, and its expected length over a sequence is the same for a sequence of any length: each number of
it lies within alpha / sqrt(length * width). A row's noise follows from the seed, the place in the order of the data and
the row's ids, and from nothing else: not from how a step's rows are split, nor from what was drawn before a resume.

Shapes: B rows, T positions, D width.
"""

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from rhapsode.model.decoder import Decoder
from rhapsode.train.objective import Batch, Objective
from rhapsode.train.objectives.loss import Loss


class Noisy:
    """An objective whose model reads with noise, as it does in the step at one place in the order of the data."""

    def __init__(self, objective: Objective, *, alpha: float, seed: int, place: int) -> None:
        self._objective, self._alpha, self._from = objective, alpha, f"{seed}:{place}:".encode()
        self.__name__, self.measures = objective.__name__, objective.measures

    def begin(self, model: Decoder, step: Sequence[Batch]) -> None:
        self._objective.begin(model, step)

    def __call__(self, model: Decoder, batch: Batch) -> Loss:
        with noisy_embedding(model, batch, alpha=self._alpha, generators=[self._drawn_for(ids) for ids in batch.ids]):
            return self._objective(model, batch)

    def _drawn_for(self, ids_T: Tensor) -> torch.Generator:
        seed = hashlib.blake2b(self._from + ids_T.cpu().numpy().tobytes(), digest_size=8).digest()
        return torch.Generator(ids_T.device).manual_seed(int.from_bytes(seed, "little", signed=True))


def lengths_at(documents_BT: Tensor, branches_BT: Tensor) -> Tensor:
    """[B,T]: how long the sequence is that a place belongs to, a trunk and a branch together.

    In a trunk, which many sequences begin with, it is the mean of theirs.
    """
    documents, branches = int(documents_BT.max()) + 1, int(branches_BT.max()) + 1
    counts_BDN = documents_BT.new_zeros(len(documents_BT), documents * branches)
    counts_BDN.scatter_add_(1, documents_BT * branches + branches_BT, torch.ones_like(documents_BT))
    counts_BDN = counts_BDN.unflatten(1, (documents, branches)).double()
    trunks_BD, own_BDN = counts_BDN[..., :1], counts_BDN[..., 1:]
    means_BD = trunks_BD + own_BDN.sum(-1, keepdim=True) / (own_BDN > 0).sum(-1, keepdim=True).clamp(min=1)
    lengths_BDN = torch.cat((means_BD, trunks_BD + own_BDN), -1)
    return lengths_BDN.flatten(1).gather(1, documents_BT * branches + branches_BT)


def noise(lengths_BT: Tensor, width: int, *, alpha: float, generators: Sequence[torch.Generator]) -> Tensor:
    """[B,T,D] in float32.

    Args:
        lengths_BT: of the sequence that each place belongs to.
        generators: one for each row.
    """
    size = (lengths_BT.shape[1], width)
    uniform_BTD = torch.stack([torch.rand(size, generator=own, device=own.device) for own in generators]) * 2 - 1
    return uniform_BTD * (alpha / (lengths_BT * width).sqrt())[..., None].float()


@contextlib.contextmanager
def noisy_embedding(
    model: Decoder, batch: Batch, *, alpha: float, generators: Sequence[torch.Generator]
) -> Iterator[None]:
    """Within this context a forward pass over these rows has noise on its embeddings.

    Where a family multiplies its embeddings (Gemma), the noise is relative to what comes out of that.
    """
    lengths_BT = lengths_at(batch.documents, batch.branches)
    drawn = noise(lengths_BT, model.spec.width, alpha=alpha, generators=generators) / model.spec.embedding_scale

    def add(module: torch.nn.Module, inputs: Any, output: Tensor) -> Tensor:  # noqa: ARG001 - what torch hands to a hook
        return output + drawn.to(output)

    handle = model.embedding.register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()
