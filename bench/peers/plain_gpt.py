"""A plain GPT as in nanoGPT and its kin: learned positions, LayerNorm without bias, GELU, torch's fused attention.

Its feed-forward is four widths and has no gate, so a block has as many parameters as the Llama's. Written here, for
nanoGPT is no package: what is measured is the kind of loop that people copy.
"""

import math

import torch
import torch.nn.functional as F
from arena.shape import Shape
from torch import Tensor, nn

from peers.loop import Habits

SMALL_NETWORKS = Habits(1e-3, (0.9, 0.99), 0.1, "cosine", 0.1, 0.02, decays_all=False)
"""nanoGPT's numbers for small networks (config/train_shakespeare_char.py); for large ones it has 6e-4 and 0.95."""

STD = 0.02


class Block(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width = shape.width
        self.heads = shape.heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width, bias=False), nn.LayerNorm(width, bias=False)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        heads = self.qkv(self.norm_1(x_BTD)).chunk(3, -1)
        q, k, v = (h.unflatten(-1, (self.heads, -1)).transpose(1, 2) for h in heads)
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x_BTD = x_BTD + self.out(seen.transpose(1, 2).flatten(-2))
        return x_BTD + self.down(F.gelu(self.up(self.norm_2(x_BTD))))


class GPT(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.tokens = nn.Embedding(shape.vocab, shape.width)
        self.positions = nn.Embedding(shape.context, shape.width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.depth))
        self.norm = nn.LayerNorm(shape.width, bias=False)
        self.head = nn.Linear(shape.width, shape.vocab, bias=False)
        for name, weight in self.named_parameters():
            if weight.ndim > 1:
                writes = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(weight, std=STD / math.sqrt(2 * shape.depth) if writes else STD)
        if shape.tied:
            self.head.weight = self.tokens.weight

    def forward(self, ids_BT: Tensor, targets_BT: Tensor | None = None) -> Tensor:
        """The mean loss where there are targets, else scores [B,T,V]."""
        x_BTD = self.tokens(ids_BT) + self.positions.weight[: ids_BT.shape[1]]
        for block in self.blocks:
            x_BTD = block(x_BTD)
        scores_BTV = self.head(self.norm(x_BTD))
        return scores_BTV if targets_BT is None else F.cross_entropy(scores_BTV.flatten(0, 1), targets_BT.flatten())


class PlainGPT:
    def __init__(self, shape: Shape, *, seed: int) -> None:
        torch.manual_seed(seed)
        self.model: nn.Module = GPT(shape)

    def loss(self, model: nn.Module, ids: Tensor, targets: Tensor) -> Tensor:
        return model(ids, targets)

    def scores(self, ids: Tensor) -> Tensor:
        return self.model(ids)
