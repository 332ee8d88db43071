"""Llama 2 and 3 (Touvron et al. 2023; Dubey et al. 2024), and the many models that announce its shape."""

from dataclasses import replace

from rhapsode.model.families.fields import Fields
from rhapsode.model.families.standard import standard
from rhapsode.model.spec import ModelSpec


def llama(f: Fields) -> ModelSpec:
    biased = f.flag("attention_bias")
    return replace(standard(f), qkv_bias=biased, out_bias=biased, ffn_bias=f.flag("mlp_bias"))
