"""Gemma 1, 2 and 3 text models (Gemma Team 2024, 2024, 2025): norms counted from one, a scaled embedding, GELU.

Gemma 2 and 3 have a norm after each part too and windows in most layers. Gemma 2 caps scores; Gemma 3 norms
queries and keys, and turns windowed layers faster.
"""

from dataclasses import replace

from rhapsode.model.families.fields import Fields
from rhapsode.model.families.standard import read_rope, standard, windowed
from rhapsode.model.spec import ModelSpec


def gemma(f: Fields) -> ModelSpec:
    f.only("hidden_act", ["gelu", "gelu_pytorch_tanh"])  # the first configs say gelu and mean its approximation
    f.only("hidden_activation", ["gelu_pytorch_tanh"])
    f.off("use_bidirectional_attention")
    spec = standard(f, head_dim=256, tied=True)
    return replace(_base(f, spec), activation="gelu_tanh")


def gemma2(f: Fields) -> ModelSpec:
    spec = replace(
        _sandwich(f),
        attention_softcap=f.maybe_number("attn_logit_softcapping", absent=50.0),
        logit_softcap=f.maybe_number("final_logit_softcapping", absent=30.0),
    )
    slides = windowed(f, spec.layers, is_sliding=lambda index: index % 2 == 0)
    window = f.whole("sliding_window")
    layers = [replace(layer, window=window if s else None) for layer, s in zip(spec.layers, slides, strict=True)]
    return replace(spec, layers=tuple(layers))


def gemma3(f: Fields) -> ModelSpec:
    spec, window = _sandwich(f, theta=1e6, kind="full_attention"), f.whole("sliding_window")
    pattern = f.whole("sliding_window_pattern", f.whole("_sliding_window_pattern", 6))
    slides = windowed(f, spec.layers, is_sliding=lambda index: (index + 1) % pattern != 0)
    near = read_rope(f, spec.head_dim, kind="sliding_attention", key="rope_local_base_freq", theta=1e4)
    layers = [
        replace(layer, rope=near, window=window) if slide else layer
        for layer, slide in zip(spec.layers, slides, strict=True)
    ]
    return replace(
        spec,
        layers=tuple(layers),
        qk_norm="head",
        attention_softcap=f.maybe_number("attn_logit_softcapping"),
        logit_softcap=f.maybe_number("final_logit_softcapping"),
    )


def _sandwich(f: Fields, *, theta: float = 1e4, kind: str | None = None) -> ModelSpec:
    """What Gemma 2 and 3 have in common."""
    f.off("use_bidirectional_attention")
    f.get("hidden_act")  # older configs say it twice; hidden_activation is what counts
    spec = standard(f, head_dim=256, theta=theta, kind=kind, tied=True, activation="hidden_activation")
    return replace(_base(f, spec), post_norm=True, attention_scale=f.number("query_pre_attn_scalar") ** -0.5)


def _base(f: Fields, spec: ModelSpec) -> ModelSpec:
    biased = f.flag("attention_bias")
    return replace(spec, norm="rms_offset", embedding_scale=spec.width**0.5, qkv_bias=biased, out_bias=biased)
