"""What a model says to the same few tokens: enough to see that two models differ, and by how much."""

import torch
from torch import Tensor

from rhapsode.kernels.attention import DenseAttend
from rhapsode.model.decoder import Decoder

LENGTH = 32


@torch.no_grad()
def probe(model: Decoder) -> Tensor:
    """The scores [1,T,V] of T tokens drawn once and for all from the vocabulary; of what gives vectors, the states."""
    spec = model.spec
    shape, device = (1, min(LENGTH, spec.context)), model.embedding.weight.device
    ids = torch.randint(0, spec.vocab_size, shape, generator=torch.Generator().manual_seed(0)).to(device)
    attend = DenseAttend(torch.ones_like(ids), dtype=model.embedding.weight.dtype)
    hidden = model(ids, torch.arange(shape[1], device=device).expand_as(ids), attend=attend)
    return model.logits(hidden) if spec.num_scores else hidden.float()
