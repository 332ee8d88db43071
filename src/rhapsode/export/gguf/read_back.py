"""The decoder that a written GGUF file holds, and how far its numbers are from those it was written from."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from rhapsode.model.decoder import Decoder
from rhapsode.model.spec import ModelSpec
from rhapsode.weights.gguf.architectures import Link, links
from rhapsode.weights.gguf.container import Gguf, read_gguf
from rhapsode.weights.gguf.rows import read_rows
from rhapsode.weights.layout import match, pieces
from rhapsode.weights.shards import Weights


class Farthest(NamedTuple):
    """The tensor that lost most: its name in the file and the size of its error, 1 for all that it was."""

    name: str
    error: float


@torch.no_grad()
def read_back(file: Path, spec: ModelSpec) -> Decoder:
    """The decoder of `spec` with the numbers of the file, in float32.

    Raises:
        RhapsodeError: the file cannot be read.
    """
    with torch.device("meta"):
        model = Decoder(spec)
    model = model.to_empty(device="cpu")
    if spec.tied:
        model.head.weight = model.embedding.weight
    targets = dict(piece for name, value in model.named_parameters() for piece in pieces(name, value, spec))
    gguf = read_gguf(file)
    for link in links(spec):
        for name, values in zip(link.disk, _tensors(gguf, link, head_dim=spec.head_dim), strict=True):
            targets[name].copy_(values)
    return model.eval()


@torch.no_grad()
def farthest(file: Path, directory: Path, spec: ModelSpec) -> Farthest:
    """Compare every tensor of the file with the one in `directory` that it was written from."""
    gguf = read_gguf(file)
    worst = Farthest("", 0.0)
    with Weights(directory) as weights:
        names = match(weights.tensors, spec, where=directory).names
        for link in links(spec):
            for name, found in zip(link.disk, _tensors(gguf, link, head_dim=spec.head_dim), strict=True):
                error = _error(weights.tensor(names[name]).float(), found)
                worst = max(worst, Farthest(link.gguf, error), key=lambda far: far.error)
    return worst


def _tensors(gguf: Gguf, link: Link, *, head_dim: int) -> list[Tensor]:
    """What a tensor of the file is on disk: one, or one for each expert."""
    rows = np.require(read_rows(gguf, link.gguf), requirements="W")  # torch takes no other
    values = torch.from_numpy(rows).view(link.shape)
    parts = values.unbind() if len(link.disk) > 1 else [values]
    return [link.change.to_disk(part, head_dim) for part in parts]


def _error(expected: Tensor, found: Tensor) -> float:
    """Root of the mean square of the difference, as a part of that of the tensor itself."""
    size = float(torch.linalg.vector_norm(expected))
    return float(torch.linalg.vector_norm(expected - found)) / max(size, torch.finfo(torch.float32).tiny)
