"""OLMo 2 and 3 (OLMo Team 2024, 2025): norms after each part, not before; queries and keys normed over all heads.

OLMo 3 adds windows. OLMoE (Muennighoff et al. 2024) keeps the norms before, and has experts.
"""

from dataclasses import replace

from rhapsode.model.families.fields import Fields
from rhapsode.model.families.standard import MOST_EXPERTS, read_rope, standard, windowed
from rhapsode.model.spec import Experts, ModelSpec


def olmo2(f: Fields) -> ModelSpec:
    biased = f.flag("attention_bias")
    return replace(standard(f), pre_norm=False, post_norm=True, qk_norm="all", qkv_bias=biased, out_bias=biased)


def olmo3(f: Fields) -> ModelSpec:
    shape, biased = standard(f, theta=5e5, kind="full_attention"), f.flag("attention_bias")
    slides = windowed(f, shape.layers, is_sliding=lambda index: (index + 1) % 4 != 0)
    near = read_rope(f, shape.head_dim, kind="sliding_attention", theta=5e5)
    window = f.whole("sliding_window", 4096)
    layers = [
        replace(layer, rope=near, window=window) if slide else layer
        for layer, slide in zip(shape.layers, slides, strict=True)
    ]
    return replace(
        shape,
        layers=tuple(layers),
        pre_norm=False,
        post_norm=True,
        qk_norm="all",
        qkv_bias=biased,
        out_bias=biased,
    )


def olmoe(f: Fields) -> ModelSpec:
    spec, biased = standard(f), f.flag("attention_bias")
    f.only("clip_qkv", [])
    count = f.whole("num_experts", high=MOST_EXPERTS)
    experts = Experts(count, f.whole("num_experts_per_tok", high=count), f.flag("norm_topk_prob"))
    layers = tuple(replace(layer, experts=experts) for layer in spec.layers)
    return replace(spec, layers=layers, qk_norm="all", qkv_bias=biased, out_bias=biased)
