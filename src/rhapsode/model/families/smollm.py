"""SmolLM3: Llama in which every fourth layer has no positions at all (Yang et al. 2025). SmolLM 1 and 2 are Llamas."""

from dataclasses import replace

from rhapsode.model.families.fields import Fields
from rhapsode.model.families.standard import standard, windowed
from rhapsode.model.spec import ModelSpec


def smollm3(f: Fields) -> ModelSpec:
    spec, biased = standard(f, theta=2e6, tied=True), f.flag("attention_bias")
    f.get("max_window_layers")  # left over from the Qwen that its code began as
    interval = f.whole("no_rope_layer_interval", 4)
    turns = f.get("no_rope_layers", [int((index + 1) % interval != 0) for index in range(len(spec.layers))])
    if not isinstance(turns, list) or len(turns) != len(spec.layers) or any(turn not in (0, 1) for turn in turns):
        raise f.wrong("no_rope_layers", f"a list of {len(spec.layers)}, each 1 (turns) or 0")
    window = f.maybe_whole("sliding_window")
    window = window if f.flag("use_sliding_window") else None
    slides = windowed(f, spec.layers, is_sliding=lambda index: window is not None and not turns[index])
    layers = [
        replace(layer, rope=layer.rope if turn else None, window=window if slide else None)
        for layer, turn, slide in zip(spec.layers, turns, slides, strict=True)
    ]
    return replace(spec, layers=tuple(layers), qkv_bias=biased, out_bias=biased, ffn_bias=f.flag("mlp_bias"))
