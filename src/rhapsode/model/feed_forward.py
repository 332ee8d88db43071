"""Feed-forward blocks: one for every token, gated or not, or a choice of experts.

Shapes: N any leading shape, D width, F inner width, E experts.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rhapsode.kernels.linear import linear
from rhapsode.kernels.swiglu import swiglu
from rhapsode.model.linear import Linear
from rhapsode.model.spec import Activation, LayerSpec, ModelSpec

Act = Callable[[Tensor], Tensor]


def _gelu_tanh(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


PLAIN: dict[Activation, Act] = {"silu": F.silu, "gelu": F.gelu, "gelu_tanh": _gelu_tanh}


def _gated(activation: Act) -> Act:
    def apply(gate_up: Tensor) -> Tensor:
        gate, up = gate_up.chunk(2, -1)
        return activation(gate) * up

    return apply


def activation_of(spec: ModelSpec) -> Act:
    """[..., 2F] -> [..., F] where gated, else [..., F] -> [..., F]."""
    if not spec.gated:
        return PLAIN[spec.activation]
    return swiglu if spec.activation == "silu" else _gated(PLAIN[spec.activation])


class Gated(nn.Module):
    """act(gate) * up, then down."""

    def __init__(self, spec: ModelSpec, layer: LayerSpec) -> None:
        super().__init__()
        self.gate_up = Linear(spec.width, 2 * layer.ffn, bias=spec.ffn_bias)
        self.down = Linear(layer.ffn, spec.width, bias=spec.ffn_bias)
        self.activation = activation_of(spec)

    def forward(self, x_ND: Tensor) -> Tensor:
        out: Tensor = self.down(self.activation(self.gate_up(x_ND)))
        return out

    @property
    def writer(self) -> nn.Module:
        return self.down


class Plain(nn.Module):
    """Up, act, then down."""

    def __init__(self, spec: ModelSpec, layer: LayerSpec) -> None:
        super().__init__()
        self.up = Linear(spec.width, layer.ffn, bias=spec.ffn_bias)
        self.down = Linear(layer.ffn, spec.width, bias=spec.ffn_bias)
        self.activation = activation_of(spec)

    def forward(self, x_ND: Tensor) -> Tensor:
        out: Tensor = self.down(self.activation(self.up(x_ND)))
        return out

    @property
    def writer(self) -> nn.Module:
        return self.down


class Mixture(nn.Module):
    """Every token goes through the experts that its router likes best, weighed by how much."""

    def __init__(self, spec: ModelSpec, layer: LayerSpec) -> None:
        super().__init__()
        assert layer.experts is not None
        assert spec.gated
        assert not spec.ffn_bias
        self.experts = layer.experts
        count, ffn = layer.experts.count, layer.ffn
        self.router = Linear(spec.width, count, bias=False)
        self.experts_gate_up = ExpertMatrices(count, 2 * ffn, spec.width)
        self.experts_down = ExpertMatrices(count, spec.width, ffn)
        self.activation = activation_of(spec)

    def forward(self, x_ND: Tensor) -> Tensor:
        rows_ND = x_ND.flatten(0, -2)
        weight_NE, chosen_NE = self._route(rows_ND)
        out_ND = torch.zeros_like(rows_ND)
        for expert in chosen_NE.unique().tolist():
            row, place = torch.where(chosen_NE == expert)
            inner = self.activation(linear(rows_ND[row], self.experts_gate_up.weight[expert]))
            update = linear(inner, self.experts_down.weight[expert]) * weight_NE[row, place, None]
            out_ND = out_ND.index_add(0, row, update)
        return out_ND.view_as(x_ND)

    @property
    def writer(self) -> nn.Module:
        return self.experts_down

    def _route(self, rows_ND: Tensor) -> tuple[Tensor, Tensor]:
        """The weights and numbers of the experts that each token takes, each [N, per_token]."""
        scores_NE: Tensor = self.router(rows_ND)
        share_NE = scores_NE.softmax(-1, dtype=torch.promote_types(scores_NE.dtype, torch.float32))
        weight_NE, chosen_NE = share_NE.topk(self.experts.per_token, -1)
        if self.experts.normalised:
            weight_NE = weight_NE / weight_NE.sum(-1, keepdim=True)
        return weight_NE.to(rows_ND.dtype), chosen_NE


class ExpertMatrices(nn.Module):
    """One matrix an expert, [E, out, in]."""

    def __init__(self, count: int, rows: int, columns: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(count, rows, columns))


FeedForward = Gated | Plain | Mixture


def make_feed_forward(spec: ModelSpec, layer: LayerSpec) -> FeedForward:
    """The feed-forward of a layer."""
    if layer.experts is not None:
        return Mixture(spec, layer)
    return Gated(spec, layer) if spec.gated else Plain(spec, layer)
