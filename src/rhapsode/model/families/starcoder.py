"""StarCoder 2 (Lozhkov et al. 2024): rotary positions and windows, with layer norms, biases and no gate."""

from dataclasses import replace

from rhapsode.model.families.fields import Fields
from rhapsode.model.families.names import INSIDE, STANDARD
from rhapsode.model.families.standard import standard
from rhapsode.model.spec import ModelSpec


def starcoder2(f: Fields) -> ModelSpec:
    spec, window = standard(f, norm="layer", eps="norm_epsilon", tied=True), f.maybe_whole("sliding_window")
    f.only("norm_type", ["layer_norm"])
    f.only("mlp_type", ["default"])
    f.get("layer_norm_epsilon")  # norm_epsilon under another name
    biased = f.flag("use_bias", default=True)
    layers = tuple(replace(layer, window=window) for layer in spec.layers)
    return replace(spec, layers=layers, gated=False, qkv_bias=biased, out_bias=biased, ffn_bias=biased)


STARCODER2_NAMES = STANDARD._replace(inside=INSIDE | {"ffn.up": ("mlp.c_fc",), "ffn.down": ("mlp.c_proj",)})
