"""A tiny `config.json` for every family and for what its members differ in: parity and mutation tests walk them.

Numbers are chosen so that each of them is seen: an epsilon of the size of an embedding's mean square, caps in reach of
the scores, few tokens a window, rotations that differ within forty tokens.
"""

from typing import Any

LENGTH = 40
"""So many tokens are compared; every window is shorter, every first context of a stretched rotation too."""

Config = dict[str, Any]

LLAMA: Config = {
    "vocab_size": 89,
    "hidden_size": 48,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_act": "silu",
    "max_position_embeddings": 64,
    "rms_norm_eps": 0.05,
    "rope_theta": 1000.0,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
GPT2: Config = {
    "vocab_size": 89,
    "n_embd": 48,
    "n_layer": 3,
    "n_head": 4,
    "n_positions": 64,
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 0.05,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GEMMA = LLAMA | {"head_dim": 16, "hidden_act": "gelu", "hidden_activation": "gelu_pytorch_tanh"}
GEMMA2 = GEMMA | {"query_pre_attn_scalar": 10, "sliding_window": 9, "tie_word_embeddings": True}
STABLELM = LLAMA | {"rms_norm_eps": None, "layer_norm_eps": 0.05}
STARCODER2 = LLAMA | {"rms_norm_eps": None, "norm_epsilon": 0.05, "hidden_act": "gelu_pytorch_tanh"}
LINEAR = {"rope_type": "linear", "factor": 2.5}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 6.0,
    "low_freq_factor": 0.5,
    "high_freq_factor": 3.0,
    "original_max_position_embeddings": 32,
}
YARN = {
    "rope_type": "yarn",
    "factor": 4.0,
    "beta_fast": 1.0,
    "beta_slow": 0.3,
    "original_max_position_embeddings": 32,
}
LONGROPE = {
    "type": "longrope",
    "short_factor": [1.0, 1.3, 1.9, 2.5],
    "long_factor": [1.0, 4.0, 8.0, 16.0],
}
EXPERTS = {"num_experts": 6, "num_experts_per_tok": 3}


def of(model_type: str, base: Config, **changes: Any) -> Config:
    """A config; what is None is taken out."""
    config = {"model_type": model_type} | base | changes
    return {key: value for key, value in config.items() if value is not None}


def slides(pattern: str) -> list[str]:
    """Kinds of layers: s slides, f is full."""
    return [{"s": "sliding_attention", "f": "full_attention"}[kind] for kind in pattern]


CASES = {
    "gemma": of("gemma", GEMMA, tie_word_embeddings=None),
    "gemma, biased, untied": of("gemma", GEMMA, attention_bias=True),
    "gemma2": of("gemma2", GEMMA2, attn_logit_softcapping=2.0, final_logit_softcapping=4.0),
    "gemma2, listed layers, usual caps": of("gemma2", GEMMA2, layer_types=slides("ffs"), rope_theta=None),
    "gemma3": of(
        "gemma3_text",
        GEMMA2,
        num_hidden_layers=4,
        rope_theta=None,
        rope_parameters={
            "full_attention": {"rope_theta": 3000.0, **LINEAR},
            "sliding_attention": {"rope_theta": 100.0, "rope_type": "default"},
        },
        layer_types=slides("sfsf"),
    ),
    "gemma3, older spelling": of(
        "gemma3_text",
        GEMMA2,
        num_hidden_layers=4,
        rope_scaling=LINEAR,
        rope_local_base_freq=100.0,
        sliding_window_pattern=3,
    ),
    "gpt2": of("gpt2", GPT2),
    "gpt2, untied, wider, another activation": of(
        "gpt2", GPT2, n_inner=56, tie_word_embeddings=False, activation_function="gelu"
    ),
    "granite": of(
        "granite",
        LLAMA,
        embedding_multiplier=3.0,
        residual_multiplier=0.4,
        attention_multiplier=0.15,
        logits_scaling=1.7,
        tie_word_embeddings=True,
    ),
    "granite, biased": of("granite", LLAMA, attention_bias=True, mlp_bias=True, attention_multiplier=0.2),
    "llama": of("llama", LLAMA),
    "llama, biased, tied, one key head": of(
        "llama", LLAMA, attention_bias=True, mlp_bias=True, tie_word_embeddings=True, num_key_value_heads=1
    ),
    "llama, a key head for every query head, one layer": of(
        "llama", LLAMA, num_key_value_heads=4, num_hidden_layers=1, rope_theta=500_000.0
    ),
    "llama, odd sizes": of(
        "llama", LLAMA, vocab_size=101, hidden_size=36, num_attention_heads=3, num_key_value_heads=1, head_dim=14
    ),
    "llama, linear": of("llama", LLAMA, rope_scaling={"type": "linear", "factor": 2.5}),
    "llama, llama3": of("llama", LLAMA, rope_theta=None, rope_parameters={"rope_theta": 5000.0, **LLAMA3}),
    "llama, yarn": of("llama", LLAMA, rope_scaling={**YARN, "truncate": False, "attention_factor": 1.4}),
    "mistral": of("mistral", LLAMA, sliding_window=9, head_dim=16),
    "mistral, without a window": of("mistral", LLAMA, rope_theta=None) | {"sliding_window": None},
    "mixtral": of("mixtral", LLAMA, num_local_experts=5, num_experts_per_tok=2, sliding_window=11),
    "olmo2": of("olmo2", LLAMA),
    "olmo2, biased": of("olmo2", LLAMA, attention_bias=True, tie_word_embeddings=True),
    "olmo3": of(
        "olmo3",
        LLAMA,
        num_hidden_layers=4,
        sliding_window=9,
        rope_theta=None,
        rope_parameters={
            "full_attention": {"rope_theta": 2000.0, **YARN},
            "sliding_attention": {"rope_theta": 2000.0, "rope_type": "default"},
        },
    ),
    "olmo3, older spelling": of(
        "olmo3",
        LLAMA,
        sliding_window=9,
        rope_theta=500_000.0,
        rope_scaling={**YARN, "factor": 2.0, "beta_fast": 0.42, "beta_slow": 0.05},
        layer_types=slides("fsf"),
    ),
    "olmoe": of("olmoe", LLAMA, **EXPERTS, norm_topk_prob=True),
    "olmoe, as they come": of("olmoe", LLAMA, **EXPERTS, num_key_value_heads=4, attention_bias=True),
    "phi3": of("phi3", LLAMA, sliding_window=13),
    "phi3, longrope on a part of each head, tied": of(
        "phi3",
        LLAMA,
        partial_rotary_factor=0.7,
        rope_scaling=LONGROPE,
        original_max_position_embeddings=48,
        max_position_embeddings=1536,
        tie_word_embeddings=True,
    ),
    "qwen2": of("qwen2", LLAMA, use_sliding_window=True, sliding_window=9, max_window_layers=1),
    "qwen2, a window that is off": of("qwen2", LLAMA, use_sliding_window=False, sliding_window=9),
    "qwen3": of("qwen3", LLAMA, head_dim=16),
    "qwen3, biased, listed layers": of(
        "qwen3",
        LLAMA,
        head_dim=10,
        attention_bias=True,
        use_sliding_window=True,
        sliding_window=9,
        layer_types=slides("sff"),
    ),
    "qwen3_moe": of(
        "qwen3_moe", LLAMA, **EXPERTS, head_dim=16, moe_intermediate_size=24, norm_topk_prob=True, mlp_only_layers=[1]
    ),
    "qwen3_moe, every second layer, as they come": of(
        "qwen3_moe", LLAMA, **EXPERTS, moe_intermediate_size=24, norm_topk_prob=False, decoder_sparse_step=2
    ),
    "smollm3": of("smollm3", LLAMA, num_hidden_layers=4, tie_word_embeddings=None, rope_theta=None),
    "smollm3, listed layers, windows": of(
        "smollm3", LLAMA, no_rope_layers=[0, 1, 0], use_sliding_window=True, sliding_window=9, attention_bias=True
    ),
    "stablelm": of("stablelm", STABLELM, hidden_size=64, use_qkv_bias=True),
    "stablelm, another share of each head": of("stablelm", STABLELM, partial_rotary_factor=0.5),
    "starcoder2": of("starcoder2", STARCODER2, sliding_window=9),
    "starcoder2, without biases": of("starcoder2", STARCODER2, use_bias=False, tie_word_embeddings=None),
}
