"""Mistral (Jiang et al. 2023): Llama with a window; Mixtral: the same with experts."""

from dataclasses import replace

from rhapsode.model.families.fields import Fields
from rhapsode.model.families.names import INSIDE, STANDARD
from rhapsode.model.families.standard import MOST_EXPERTS, standard
from rhapsode.model.spec import Experts, ModelSpec


def mistral(f: Fields) -> ModelSpec:
    spec, window = standard(f), f.maybe_whole("sliding_window", absent=4096)
    return replace(spec, layers=tuple(replace(layer, window=window) for layer in spec.layers))


def mixtral(f: Fields) -> ModelSpec:
    spec, window = standard(f, theta=1e6), f.maybe_whole("sliding_window")
    count = f.whole("num_local_experts", high=MOST_EXPERTS)
    experts = Experts(count, f.whole("num_experts_per_tok", high=count), normalised=True)
    return replace(spec, layers=tuple(replace(layer, window=window, experts=experts) for layer in spec.layers))


MIXTRAL_NAMES = STANDARD._replace(
    inside=INSIDE
    | {
        "ffn.router": ("block_sparse_moe.gate",),
        "ffn.experts_gate_up": ("block_sparse_moe.experts.{expert}.w1", "block_sparse_moe.experts.{expert}.w3"),
        "ffn.experts_down": ("block_sparse_moe.experts.{expert}.w2",),
    }
)
