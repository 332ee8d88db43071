"""The one decoder.

Pre-norm blocks of attention and a gated feed-forward over a residual stream (Vaswani et al. 2017; Llama, Qwen3). How
queries reach keys is handed in as an `Attend`: the decoder knows neither batches of packed documents nor caches. Any
leading shape works: [B,T] rows in training, [N] tokens of many requests in the engine.

Shapes: N any leading shape, D width, H query heads, K key/value heads, C head size, F inner width, V vocabulary.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rhapsode.kernels.attention import Attend
from rhapsode.kernels.norm import rms_norm
from rhapsode.kernels.rope import Rotation, rotate, rotation
from rhapsode.kernels.swiglu import swiglu
from rhapsode.model.spec import LayerSpec, ModelSpec


class RMSNorm(nn.Module):
    """Root-mean-square normalisation over the last dimension."""

    def __init__(self, size: int, *, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight, self.eps)


class Attention(nn.Module):
    """Grouped-query attention; one product makes queries, keys and values."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.heads = (spec.heads, spec.kv_heads, spec.kv_heads)
        self.head_dim = spec.head_dim
        self.qkv = nn.Linear(spec.width, sum(self.heads) * spec.head_dim, bias=False)
        self.out = nn.Linear(spec.heads * spec.head_dim, spec.width, bias=False)
        self.q_norm = RMSNorm(spec.head_dim, eps=spec.norm_eps) if spec.qk_norm else nn.Identity()
        self.k_norm = RMSNorm(spec.head_dim, eps=spec.norm_eps) if spec.qk_norm else nn.Identity()

    def forward(self, x_ND: Tensor, turn: Rotation, *, layer: int, attend: Attend) -> Tensor:
        heads_NAC = self.qkv(x_ND).unflatten(-1, (-1, self.head_dim))
        q_NHC, k_NKC, v_NKC = heads_NAC.split(self.heads, -2)
        q_NHC, k_NKC = rotate(self.q_norm(q_NHC), turn), rotate(self.k_norm(k_NKC), turn)
        out: Tensor = self.out(attend(layer, q_NHC, k_NKC, v_NKC).flatten(-2))
        return out


class FeedForward(nn.Module):
    """silu(gate) * up, then down."""

    def __init__(self, spec: ModelSpec, layer: LayerSpec) -> None:
        super().__init__()
        self.gate_up = nn.Linear(spec.width, 2 * layer.ffn, bias=False)
        self.down = nn.Linear(layer.ffn, spec.width, bias=False)

    def forward(self, x_ND: Tensor) -> Tensor:
        out: Tensor = self.down(swiglu(self.gate_up(x_ND)))
        return out


class Block(nn.Module):
    """Attention and feed-forward, each added to the residual stream."""

    def __init__(self, spec: ModelSpec, index: int) -> None:
        super().__init__()
        self.index = index
        self.attention_norm = RMSNorm(spec.width, eps=spec.norm_eps)
        self.attention = Attention(spec)
        self.ffn_norm = RMSNorm(spec.width, eps=spec.norm_eps)
        self.ffn = FeedForward(spec, spec.layers[index])

    def forward(self, x_ND: Tensor, turn: Rotation, *, attend: Attend) -> Tensor:
        x_ND = x_ND + self.attention(self.attention_norm(x_ND), turn, layer=self.index, attend=attend)
        out: Tensor = x_ND + self.ffn(self.ffn_norm(x_ND))
        return out


class Decoder(nn.Module):
    """A `ModelSpec` made of torch modules. Weights are not initialised here: see `model/initialise.py`."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.embedding = nn.Embedding(spec.vocab_size, spec.width)
        self.layers = nn.ModuleList(Block(spec, index) for index in range(len(spec.layers)))
        self.norm = RMSNorm(spec.width, eps=spec.norm_eps)
        self.head = nn.Linear(spec.width, spec.vocab_size, bias=False)
        if spec.tied:
            self.head.weight = self.embedding.weight

    def forward(self, ids_N: Tensor, positions_N: Tensor, *, attend: Attend) -> Tensor:
        """ids and positions [...] -> hidden [..., D], after the final norm."""
        x_ND = self.embedding(ids_N)
        turns = {
            theta: rotation(positions_N, head_dim=self.spec.head_dim, theta=theta, dtype=x_ND.dtype)
            for theta in {layer.rope_theta for layer in self.spec.layers}
        }
        for block, layer in zip(self.layers, self.spec.layers, strict=True):
            x_ND = block(x_ND, turns[layer.rope_theta], attend=attend)
        out: Tensor = self.norm(x_ND)
        return out

    def logits(self, hidden_ND: Tensor) -> Tensor:
        """hidden [..., D] -> scores [..., V] in float32 (float64 stays)."""
        scores = F.linear(hidden_ND, self.head.weight)
        return scores.to(torch.promote_types(scores.dtype, torch.float32))
