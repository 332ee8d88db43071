"""Qwen 2 and 2.5: biases on queries, keys and values; Qwen 3: norms instead (Yang et al. 2024, 2025); its experts."""

from dataclasses import replace

from rhapsode.model.families.fields import Fields
from rhapsode.model.families.standard import MOST_EXPERTS, standard, windowed
from rhapsode.model.spec import Experts, LayerSpec, ModelSpec


def qwen2(f: Fields) -> ModelSpec:
    spec = standard(f)
    return replace(spec, layers=_windows(f, spec), qkv_bias=True)


def qwen3(f: Fields) -> ModelSpec:
    spec, biased = standard(f, head_dim=128), f.flag("attention_bias")
    return replace(spec, layers=_windows(f, spec), qk_norm="head", qkv_bias=biased, out_bias=biased)


def qwen3_moe(f: Fields) -> ModelSpec:
    spec, biased = standard(f), f.flag("attention_bias")
    f.off("use_sliding_window")
    for unused in ("sliding_window", "max_window_layers"):
        f.get(unused)
    key = "num_experts" if f.get("num_experts") is not None else "num_local_experts"
    count = f.whole(key, high=MOST_EXPERTS)
    experts = Experts(count, f.whole("num_experts_per_tok", high=count), f.flag("norm_topk_prob"))
    step, dense, ffn = f.whole("decoder_sparse_step", 1), f.get("mlp_only_layers", []), f.whole("moe_intermediate_size")
    if not isinstance(dense, list) or any(type(index) is not int for index in dense):
        raise f.wrong("mlp_only_layers", "a list of the numbers of layers")
    layers = [
        layer if index in dense or (index + 1) % step else replace(layer, ffn=ffn, experts=experts)
        for index, layer in enumerate(spec.layers)
    ]
    return replace(spec, layers=tuple(layers), qk_norm="head", qkv_bias=biased, out_bias=biased)


def _windows(f: Fields, spec: ModelSpec) -> tuple[LayerSpec, ...]:
    """Layers from the one numbered max_window_layers on have a window, where windows are used at all."""
    window, first = f.maybe_whole("sliding_window", absent=4096), f.whole("max_window_layers", 28, low=0)
    window = window if f.flag("use_sliding_window") else None
    slides = windowed(f, spec.layers, is_sliding=lambda index: window is not None and index >= first)
    return tuple(
        replace(layer, window=window if slide else None) for layer, slide in zip(spec.layers, slides, strict=True)
    )
