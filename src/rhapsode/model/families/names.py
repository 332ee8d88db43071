"""Where a parameter of the decoder lies on disk. Names on disk are Hugging Face's.

What the decoder computes as one product is stacked from several tensors; the tables here say how, and loading and
saving both read them. `{}` stands for the number of the layer, `{expert}` for each expert in turn.
"""

from collections.abc import Mapping
from typing import NamedTuple


class Names(NamedTuple):
    """One family's names.

    Attributes:
        layer: what every name inside a layer begins with.
        inside: our module in a layer -> the modules on disk whose rows it stacks, in order.
        outside: the same for modules that are in no layer.
        transposed: modules on disk whose matrices lie the other way round.
    """

    layer: str
    inside: Mapping[str, tuple[str, ...]]
    outside: Mapping[str, tuple[str, ...]]
    transposed: frozenset[str] = frozenset()


OUTSIDE = {"embedding": ("model.embed_tokens",), "norm": ("model.norm",), "head": ("lm_head",)}
INSIDE = {
    "attention.qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attention.out": ("self_attn.o_proj",),
    "attention.q_norm": ("self_attn.q_norm",),
    "attention.k_norm": ("self_attn.k_norm",),
    "attention_norm": ("input_layernorm",),
    "ffn_norm": ("post_attention_layernorm",),
    "ffn.gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "ffn.down": ("mlp.down_proj",),
    "ffn.router": ("mlp.gate",),
    "ffn.experts_gate_up": ("mlp.experts.{expert}.gate_proj", "mlp.experts.{expert}.up_proj"),
    "ffn.experts_down": ("mlp.experts.{expert}.down_proj",),
}
STANDARD = Names("model.layers.{}.", INSIDE, OUTSIDE)
AFTER = {"attention_post_norm": ("post_attention_layernorm",), "ffn_post_norm": ("post_feedforward_layernorm",)}
POST_NORM = STANDARD._replace(inside=INSIDE | AFTER)
SANDWICH = STANDARD._replace(inside=INSIDE | AFTER | {"ffn_norm": ("pre_feedforward_layernorm",)})
