"""A model directory read as a model that is never trained itself: the matrices of its blocks in few bits.

A matrix is widened, rounded and let go before the next one is read: there is never a whole model in memory that is
wider than what is kept of it (QLoRA, Dettmers et al. 2023, arXiv:2305.14314).
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from rhapsode.kernels.storage import Storage
from rhapsode.model.adapted_linear import AdaptedLinear
from rhapsode.model.adapter import owners
from rhapsode.model.decoder import Decoder
from rhapsode.model.linear import Linear
from rhapsode.model.parameters import shapes
from rhapsode.weights.directory import read_spec
from rhapsode.weights.layout import check_head, match, pieces
from rhapsode.weights.proof import proven
from rhapsode.weights.shards import Weights


def load_frozen(directory: Path, *, dtype: torch.dtype, storage: Storage) -> Decoder:
    """As `load_model`, frozen, with the matrices of the blocks in `storage`; `dtype` is what computes.

    Raises:
        RhapsodeError: the directory is incomplete, of an unknown family, or its tensors do not fit its config.
        VerificationMismatch: a file has changed since it was written.
    """
    with proven(directory) as weights:
        return _frozen_of(weights, dtype=dtype, storage=storage)


def read_frozen(directory: Path, *, dtype: torch.dtype, storage: Storage) -> Decoder:
    """The same of a directory that need not be complete: for those who are still making it.

    Raises:
        RhapsodeError: it is of an unknown family, or its tensors do not fit its config.
    """
    with Weights(directory) as weights:
        return _frozen_of(weights, dtype=dtype, storage=storage)


@torch.no_grad()
def _frozen_of(weights: Weights, *, dtype: torch.dtype, storage: Storage) -> Decoder:
    directory = weights.directory
    spec = read_spec(directory)
    layout = match(weights.tensors, spec, where=directory)
    with torch.device("meta"):
        model = Decoder(spec)
    stored = {f"{owner}.weight" for owner in owners(spec)}
    for name, shape in shapes(spec).items():
        value = torch.empty(shape, dtype=dtype)
        for disk_name, piece in pieces(name, value, spec):
            weights.read_into(layout.names[disk_name], piece)
        _place(model, name, value, storage=storage if name in stored else None)
    if spec.tied:
        model.head.weight = model.embedding.weight
    if layout.head is not None:
        check_head(weights.blocks(layout.head), model.embedding.weight, name=layout.head, where=directory)
    return model.eval()


def _place(model: Decoder, name: str, value: Tensor, *, storage: Storage | None) -> None:
    owner, _, leaf = name.rpartition(".")
    module = model.get_submodule(owner)
    setattr(module, leaf, nn.Parameter(value, requires_grad=False))
    if storage is not None:
        assert isinstance(module, Linear)
        model.set_submodule(owner, AdaptedLinear(module, storage=storage))
