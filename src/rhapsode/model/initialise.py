"""All initialisation of a decoder's weights, in one function.

Matrices are uniform with the variance of a normal of std 1/sqrt(fan in); the two projections that write into the
residual stream start at zero, so that every block begins as the identity and the first loss is the uniform one (as
nanochat does; the idea is from Zhang et al. 2019, Fixup). Embeddings are normal with std `embedding_std`; norms are
one and biases nothing.
"""

import math

import torch
from torch import nn

from rhapsode.model.decoder import Block, Decoder
from rhapsode.model.feed_forward import ExpertMatrices
from rhapsode.model.norms import LayerNorm, RMSNorm
from rhapsode.model.spec import ModelSpec

EMBEDDING_STD = 0.02
TIED_WIDTH = 256


def embedding_std(spec: ModelSpec) -> float:
    """0.02; less for a wide tied embedding, where a token's first score for itself is std * width."""
    return EMBEDDING_STD * min(1.0, TIED_WIDTH / spec.width) if spec.tied else EMBEDDING_STD


@torch.no_grad()
def initialise(model: Decoder, *, seed: int) -> None:
    """Draw every weight of `model` in place from a generator of its own: equal seeds give equal bytes on a CPU."""
    random = torch.Generator().manual_seed(seed)
    blocks = [module for module in model.modules() if isinstance(module, Block)]
    writers = {id(module) for block in blocks for module in block.writers}
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            module.weight.normal_(0.0, embedding_std(model.spec), generator=random)
        elif isinstance(module, RMSNorm | LayerNorm):
            module.weight.fill_(module.neutral)
        elif isinstance(module, nn.Linear | ExpertMatrices) and id(module) in writers:
            module.weight.zero_()
        elif isinstance(module, nn.Linear | ExpertMatrices) and module.weight is not model.embedding.weight:
            bound = math.sqrt(3.0 / module.weight.shape[-1])
            module.weight.uniform_(-bound, bound, generator=random)
        if isinstance(bias := getattr(module, "bias", None), nn.Parameter):
            bias.zero_()
