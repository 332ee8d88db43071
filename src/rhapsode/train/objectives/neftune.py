"""Noise on embeddings while tuning on instructions (Jain et al. 2023, NEFTune, arXiv:2310.05914).

The noise is uniform, and its expected length over a document is the same for a document of any length: each number of
it lies within alpha / sqrt(length * width). It is drawn from a generator of the caller's, never from torch's own, so a
step can be repeated.

Shapes: B rows, T positions, D width.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from rhapsode.model.decoder import Decoder


def noise(documents_BT: Tensor, width: int, *, alpha: float, generator: torch.Generator) -> Tensor:
    """[B,T,D] in float32 on the generator's device, for packed rows; a row's draws follow on those of the row before.

    Args:
        documents_BT: document numbers from 0 on, which say how long each is; those of one row are not those of another.
    """
    documents_BT = documents_BT.to(generator.device)
    counts = documents_BT.new_zeros(len(documents_BT), int(documents_BT.max()) + 1)
    counts.scatter_add_(1, documents_BT, torch.ones_like(documents_BT))
    lengths_BT = counts.gather(1, documents_BT)
    uniform = torch.rand(*documents_BT.shape, width, generator=generator, device=generator.device) * 2 - 1
    return uniform * (alpha / (lengths_BT * width).sqrt())[:, :, None]


@contextlib.contextmanager
def noisy_embedding(
    model: Decoder, documents_BT: Tensor, *, alpha: float, generator: torch.Generator
) -> Iterator[None]:
    """Within this context a forward pass over these rows has noise on its embeddings.

    Where a family multiplies its embeddings (Gemma), the noise is relative to what comes out of that.
    """
    drawn = noise(documents_BT, model.spec.width, alpha=alpha, generator=generator) / model.spec.embedding_scale

    def add(module: torch.nn.Module, inputs: Any, output: Tensor) -> Tensor:  # noqa: ARG001 - what torch hands to a hook
        return output + drawn.to(output)

    handle = model.embedding.register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()
