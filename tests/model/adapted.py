"""Adapted models, small enough to look at."""

from collections.abc import Iterator

import torch
from tests.conftest import make_decoder
from torch import Tensor

from rhapsode.kernels.frozen import Storage
from rhapsode.model.adapter import adapt
from rhapsode.model.adapter_spec import AdapterSpec
from rhapsode.model.decoder import Decoder
from rhapsode.model.spec import ModelSpec

KINDS = {
    "lora": AdapterSpec(rank=3, alpha=6),
    "rslora": AdapterSpec(rank=3, alpha=6, is_rslora=True),
    "dora": AdapterSpec(rank=3, alpha=6, kind="dora"),
    "some": AdapterSpec(rank=2, alpha=5, targets=("q_proj", "v_proj", "down_proj"), layers=(1,)),
}


def learnt(model: Decoder) -> Iterator[tuple[str, Tensor]]:
    """The parameters that are trained."""
    return ((name, value) for name, value in model.named_parameters() if value.requires_grad)


@torch.no_grad()
def stir(model: Decoder, *, seed: int, size: float = 0.2) -> None:
    """As if something had been learnt: every B is drawn, magnitudes move."""
    random = torch.Generator().manual_seed(seed)
    for name, value in learnt(model):
        noise = torch.randn(value.shape, generator=random).to(value) * size
        value.mul_(1 + noise) if name.endswith("magnitude") else value.add_(noise)


def make_adapted(
    spec: ModelSpec,
    adapter: AdapterSpec,
    *,
    dtype: torch.dtype = torch.float32,
    storage: Storage | None = None,
) -> Decoder:
    """A decoder with large random weights and an adapter that has learnt something."""
    model = make_decoder(spec, dtype=dtype)
    adapt(model, adapter, seed=0, storage=storage)
    stir(model, seed=1)
    return model
