"""StableLM 2 (Bellagente et al. 2024): Llama with layer norms, of which a quarter of each head turns."""

from dataclasses import replace

from rhapsode.model.families.fields import Fields
from rhapsode.model.families.standard import standard
from rhapsode.model.spec import ModelSpec


def stablelm(f: Fields) -> ModelSpec:
    f.off("use_parallel_residual")
    f.off("qk_layernorm")
    spec = standard(f, norm="layer", eps="layer_norm_eps", partial=0.25)
    return replace(spec, qkv_bias=f.flag("use_qkv_bias"))
