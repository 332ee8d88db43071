"""The one decoder.

Blocks of attention and feed-forward over a residual stream (Vaswani et al. 2017). What distinguishes families are the
fields of a `ModelSpec`; choices are made when modules are made. How queries reach keys is handed in as an `Attend`:
the decoder knows neither batches of packed documents nor caches. Any leading shape works: [B,T] rows in training, [N]
tokens of many requests in the engine.

Shapes: N any leading shape, D width, H query heads, K key/value heads, C head size, F inner width, V vocabulary.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from rhapsode.kernels.attention import Attend, Weighing
from rhapsode.kernels.linear import linear
from rhapsode.kernels.rope import Rotation, rotate, rotation
from rhapsode.model.feed_forward import FeedForward, make_feed_forward
from rhapsode.model.linear import Linear
from rhapsode.model.norms import RMSNorm, make_norm
from rhapsode.model.rope import Rope
from rhapsode.model.spec import LayerSpec, ModelSpec


class Attention(nn.Module):
    """Grouped-query attention; one product makes queries, keys and values."""

    def __init__(self, spec: ModelSpec, layer: LayerSpec) -> None:
        super().__init__()
        self.heads = (spec.heads, spec.kv_heads, spec.kv_heads)
        self.head_dim = spec.head_dim
        self.weighing = Weighing(spec.attention_scale, layer.window, spec.attention_softcap)
        self.qkv = Linear(spec.width, sum(self.heads) * spec.head_dim, bias=spec.qkv_bias)
        self.out = Linear(spec.heads * spec.head_dim, spec.width, bias=spec.out_bias)
        self.q_norm = _head_norm(spec, spec.heads)
        self.k_norm = _head_norm(spec, spec.kv_heads)

    def forward(self, x_ND: Tensor, turn: Rotation | None, *, layer: int, attend: Attend) -> Tensor:
        heads_NAC = self.qkv(x_ND).unflatten(-1, (-1, self.head_dim))
        q_NHC, k_NKC, v_NKC = heads_NAC.split(self.heads, -2)
        q_NHC, k_NKC = self.q_norm(q_NHC), self.k_norm(k_NKC)
        if turn is not None:
            q_NHC, k_NKC = rotate(q_NHC, turn), rotate(k_NKC, turn)
        out: Tensor = self.out(attend(layer, q_NHC, k_NKC, v_NKC, self.weighing).flatten(-2))
        return out


class AllHeads(RMSNorm):
    """A norm over all heads together: [..., H, C] as [..., H C]."""

    def forward(self, x_NHC: Tensor) -> Tensor:
        out: Tensor = super().forward(x_NHC.flatten(-2)).unflatten(-1, x_NHC.shape[-2:])
        return out


def _head_norm(spec: ModelSpec, heads: int) -> nn.Module:
    if spec.qk_norm is None:
        return nn.Identity()
    if spec.qk_norm == "all":
        return AllHeads(heads * spec.head_dim, eps=spec.norm_eps)
    return make_norm(spec, spec.head_dim)


class Block(nn.Module):
    """Attention and feed-forward, each added to the residual stream."""

    def __init__(self, spec: ModelSpec, index: int) -> None:
        super().__init__()
        layer = spec.layers[index]
        self.index = index
        self.residual_scale = spec.residual_scale
        self.attention = Attention(spec, layer)
        self.ffn: FeedForward = make_feed_forward(spec, layer)
        self.attention_norm, self.ffn_norm = (
            make_norm(spec, spec.width) if spec.pre_norm else nn.Identity() for _ in range(2)
        )
        self.attention_post_norm, self.ffn_post_norm = (
            make_norm(spec, spec.width) if spec.post_norm else nn.Identity() for _ in range(2)
        )

    def forward(self, x_ND: Tensor, turn: Rotation | None, *, attend: Attend) -> Tensor:
        seen_ND = self.attention(self.attention_norm(x_ND), turn, layer=self.index, attend=attend)
        x_ND = self._add(x_ND, self.attention_post_norm(seen_ND))
        return self._add(x_ND, self.ffn_post_norm(self.ffn(self.ffn_norm(x_ND))))

    @property
    def writers(self) -> tuple[nn.Module, nn.Module]:
        """The two projections that write into the residual stream."""
        return self.attention.out, self.ffn.writer

    def _add(self, x_ND: Tensor, update_ND: Tensor) -> Tensor:
        return x_ND + update_ND if self.residual_scale == 1 else x_ND + update_ND * self.residual_scale


class Lower(NamedTuple):
    """What the lowest `layers` blocks make of some rows, [..., D]: where nothing of them is trained, once is enough."""

    hidden: Tensor
    layers: int


class Decoder(nn.Module):
    """A `ModelSpec` made of torch modules. Weights are not initialised here: see `model/initialise.py`."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.spec = spec
        self.embedding = _embedding(spec.vocab_size, spec.width)
        self.positions = _embedding(spec.context, spec.width) if spec.learned_positions else None
        self.layers = nn.ModuleList(Block(spec, index) for index in range(len(spec.layers)))
        self.norm = make_norm(spec, spec.width)
        if spec.num_scores:  # what gives vectors has no head
            self.head = Linear(spec.width, spec.num_scores, bias=False)
        if spec.tied:
            self.head.weight = self.embedding.weight

    def forward(self, ids_N: Tensor, positions_N: Tensor, *, attend: Attend, lower: Lower | None = None) -> Tensor:
        """ids and positions [...] -> hidden [..., D], after the final norm.

        Args:
            lower: what `lower` gave for the same rows.
        """
        x_ND, first = (self._embedded(ids_N, positions_N), 0) if lower is None else lower
        out: Tensor = self.norm(self._through(x_ND, positions_N, range(first, len(self.layers)), attend=attend))
        return out

    def lower(self, ids_N: Tensor, positions_N: Tensor, *, attend: Attend, layers: int) -> Lower:
        """What the lowest `layers` blocks make of these rows."""
        x_ND = self._embedded(ids_N, positions_N)
        return Lower(self._through(x_ND, positions_N, range(layers), attend=attend), layers)

    def _embedded(self, ids_N: Tensor, positions_N: Tensor) -> Tensor:
        x_ND: Tensor = self.embedding(ids_N)
        if self.spec.embedding_scale != 1:
            x_ND = x_ND * torch.tensor(self.spec.embedding_scale, dtype=x_ND.dtype, device=x_ND.device)
        if self.positions is not None:
            x_ND = x_ND + self.positions(positions_N)
        return x_ND

    def _through(self, x_ND: Tensor, positions_N: Tensor, layers: range, *, attend: Attend) -> Tensor:
        ropes = [self.spec.layers[index].rope for index in layers]
        turns = {
            rope: None if rope is None else _rotation(rope, positions_N, dtype=x_ND.dtype)
            for rope in dict.fromkeys(ropes)
        }
        for index, rope in zip(layers, ropes, strict=True):
            x_ND = self.layers[index](x_ND, turns[rope], attend=attend)
        return x_ND

    def logits(self, hidden_ND: Tensor) -> Tensor:
        """hidden [..., D] -> scores [..., V] of tokens, or of labels, in float32 (float64 stays)."""
        scores_NV = linear(hidden_ND, self.head.weight)
        return finish_scores(scores_NV.to(torch.promote_types(scores_NV.dtype, torch.float32)), self.spec)


def _embedding(rows: int, width: int) -> nn.Embedding:
    """Not filled: drawing numbers that nobody keeps costs a second of imports where there is no memory behind them."""
    embedding: nn.Embedding = nn.Embedding.from_pretrained(torch.empty(rows, width), freeze=False)
    return embedding


def finish_scores(scores_NV: Tensor, spec: ModelSpec) -> Tensor:
    """Products with the head -> scores: scaled and soft-capped as the family does."""
    if spec.logit_scale != 1:
        scores_NV = scores_NV * spec.logit_scale
    if spec.logit_softcap is not None:
        scores_NV = torch.tanh(scores_NV / spec.logit_softcap) * spec.logit_softcap
    return scores_NV


def _rotation(rope: Rope, positions_N: Tensor, *, dtype: torch.dtype) -> Rotation:
    wide = torch.promote_types(dtype, torch.float32)
    frequencies = torch.tensor(rope.frequencies(), dtype=wide, device=positions_N.device)
    return rotation(positions_N, frequencies, scale=rope.scale, dtype=dtype)
