"""Granite 3 (IBM 2024): Llama with four multipliers in place of depth- and width-dependent initialisation (muP)."""

from dataclasses import replace

from rhapsode.model.families.fields import Fields
from rhapsode.model.families.standard import standard
from rhapsode.model.spec import ModelSpec


def granite(f: Fields) -> ModelSpec:
    biased = f.flag("attention_bias")
    return replace(
        standard(f),
        embedding_scale=f.number("embedding_multiplier", 1.0),
        residual_scale=f.number("residual_multiplier", 1.0),
        attention_scale=f.number("attention_multiplier", 1.0),
        logit_scale=1 / f.number("logits_scaling", 1.0),
        qkv_bias=biased,
        out_bias=biased,
        ffn_bias=f.flag("mlp_bias"),
    )
