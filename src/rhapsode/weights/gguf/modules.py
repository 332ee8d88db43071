"""Names of tensors: what llama.cpp calls a module and what Hugging Face calls it, for each architecture.

A tensor's name is its module's and then `.weight` or `.bias`. Inside a block `blk.N.` stands before it here and the
family's own words there, which `model/families` has; experts lie in one tensor here and in one each there.
"""

from collections.abc import Mapping

OUTSIDE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
ATTENTION = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
}
NORMS = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
AFTER = {"post_attention_layernorm": "post_attention_norm", "post_feedforward_layernorm": "post_ffw_norm"}
GATED = {"mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}

STANDARD = ATTENTION | NORMS | GATED
SANDWICH = ATTENTION | GATED | AFTER | {"input_layernorm": "attn_norm", "pre_feedforward_layernorm": "ffn_norm"}
POST_NORM = ATTENTION | GATED | AFTER
PHI3 = NORMS | {
    "self_attn.qkv_proj": "attn_qkv",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
STARCODER2 = ATTENTION | NORMS | {"mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down"}
EXPERTS = (
    ATTENTION
    | NORMS
    | {
        "mlp.gate": "ffn_gate_inp",
        "mlp.experts.{}.gate_proj": "ffn_gate_exps",
        "mlp.experts.{}.up_proj": "ffn_up_exps",
        "mlp.experts.{}.down_proj": "ffn_down_exps",
    }
)
MIXTRAL = (
    ATTENTION
    | NORMS
    | {
        "block_sparse_moe.gate": "ffn_gate_inp",
        "block_sparse_moe.experts.{}.w1": "ffn_gate_exps",
        "block_sparse_moe.experts.{}.w3": "ffn_up_exps",
        "block_sparse_moe.experts.{}.w2": "ffn_down_exps",
    }
)
GPT2 = {
    "ln_1": "attn_norm",
    "attn.c_attn": "attn_qkv",
    "attn.c_proj": "attn_output",
    "ln_2": "ffn_norm",
    "mlp.c_fc": "ffn_up",
    "mlp.c_proj": "ffn_down",
}
GPT2_OUTSIDE = {
    "transformer.wte": "token_embd",
    "transformer.wpe": "position_embd",
    "transformer.ln_f": "output_norm",
    "lm_head": "output",
}

Modules = Mapping[str, str]
