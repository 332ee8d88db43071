"""Phi 3, 3.5 and 4-mini (Abdin et al. 2024): Llama whose projections lie stacked on disk as they are computed."""

from dataclasses import replace

from rhapsode.model.families.fields import Fields
from rhapsode.model.families.names import INSIDE, STANDARD
from rhapsode.model.families.standard import standard
from rhapsode.model.spec import ModelSpec


def phi3(f: Fields) -> ModelSpec:
    spec, window = standard(f, partial=1.0), f.maybe_whole("sliding_window")
    f.get("original_max_position_embeddings")  # counts only where LongRoPE stretches the context
    for unused in ("full_attn_mod", "interpolate_factor"):
        f.only(unused, [1])
    return replace(spec, layers=tuple(replace(layer, window=window) for layer in spec.layers))


PHI3_CODE = {
    "AutoConfig": "configuration_phi3.Phi3Config",
    "AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM",
    "AutoTokenizer": "Xenova/gpt-4o",
}
PHI3_NAMES = STANDARD._replace(
    inside=INSIDE | {"attention.qkv": ("self_attn.qkv_proj",), "ffn.gate_up": ("mlp.gate_up_proj",)}
)
