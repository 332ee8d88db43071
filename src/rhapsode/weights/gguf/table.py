"""Architectures in GGUF files and families in config.json: one table, read in both directions.

`general.architecture` is llama.cpp's name; `llama` stands for several of Hugging Face's. Each row says which settings a
file has, how positions turn, what tensors are called and how their numbers differ. A file is understood when every key
of its architecture and every tensor was: what is left over is refused by name.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from rhapsode.model.spec import ModelSpec
from rhapsode.weights.gguf.changes import FROM_ONE, ROTARY, TURNED, Change
from rhapsode.weights.gguf.facts import Facts
from rhapsode.weights.gguf.modules import (
    EXPERTS,
    GPT2,
    GPT2_OUTSIDE,
    MIXTRAL,
    OUTSIDE,
    PHI3,
    POST_NORM,
    SANDWICH,
    STANDARD,
    STARCODER2,
    Modules,
)
from rhapsode.weights.gguf.rotation import LongRotation, NearAndFar, NoRotation, Rotation
from rhapsode.weights.gguf.settings import (
    Always,
    ExpertCounts,
    HasTensor,
    HeadDim,
    Layers,
    OneWindow,
    QueryScale,
    Real,
    Setting,
    VocabularySize,
    Whole,
    Windows,
    head_dim,
)


class Architecture(NamedTuple):
    """One kind of model.

    Attributes:
        name: llama.cpp's.
        model_type: Hugging Face's.
        settings, rotation: what a file says and config.json says too.
        block, outside: Hugging Face's module -> llama.cpp's, inside of a block and outside of all.
        changes: llama.cpp's module -> how its numbers differ.
        when: of several rows with one name, the first whose condition holds is meant.
    """

    name: str
    model_type: str
    settings: tuple[Setting, ...]
    rotation: Rotation | NearAndFar | LongRotation | NoRotation = Rotation()
    block: Modules = STANDARD
    outside: Modules = OUTSIDE
    changes: Mapping[str, Change] = {}
    when: Callable[[Facts], bool] = lambda _: True


def _context(spec: ModelSpec) -> int:
    """What config.json says, which may be more than the decoder uses (LongRoPE)."""
    return int(spec.config.get("max_position_embeddings") or spec.context)


def _dense(spec: ModelSpec) -> int:
    """The width that layers without experts have, or would have."""
    return int(spec.config.get("intermediate_size") or spec.layers[0].ffn)


def _heads(facts: Facts) -> int:
    return facts.whole("attention.head_count")


_SIZES: tuple[Setting, ...] = (
    VocabularySize(),
    Layers(),
    Whole("context_length", "max_position_embeddings", _context),
    Whole("embedding_length", "hidden_size", lambda spec: spec.width),
    Whole("attention.head_count", "num_attention_heads", lambda spec: spec.heads),
    Whole("attention.head_count_kv", "num_key_value_heads", lambda spec: spec.kv_heads, otherwise=_heads),
)
_MAY_TIE = HasTensor("tie_word_embeddings", "output.weight", is_there=False)
_TIED, _UNTIED = (Always({"tie_word_embeddings": tied}) for tied in (True, False))
_FFN = Whole("feed_forward_length", "intermediate_size", _dense)
_RMS = Real("attention.layer_norm_rms_epsilon", "rms_norm_eps", lambda spec: spec.norm_eps)
_SILU = Always({"hidden_act": "silu"})
_LLAMA: tuple[Setting, ...] = (*_SIZES, _FFN, HeadDim(is_free=True), _RMS, _SILU)
_SHARED: tuple[Setting, ...] = (*_SIZES, _FFN, HeadDim(is_free=False), _RMS, _SILU)
_BIASES = (HasTensor("attention_bias", "blk.0.attn_q.bias"), HasTensor("mlp_bias", "blk.0.ffn_up.bias"))
_GEMMA: tuple[Setting, ...] = (
    *_SIZES,
    _FFN,
    HeadDim(is_free=True),
    _RMS,
    Always({"hidden_activation": "gelu_pytorch_tanh", "hidden_act": "gelu_pytorch_tanh"}),
)

_PAIRS = {"attn_q": ROTARY, "attn_k": ROTARY}
_FROM_ONE = dict.fromkeys(
    (
        *("attn_norm", "attn_q_norm", "attn_k_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"),
        "output_norm",
    ),
    FROM_ONE,
)

ARCHITECTURES = (
    Architecture(
        "llama",
        "mixtral",
        (*_LLAMA, _MAY_TIE, ExpertCounts("num_local_experts")),
        block=MIXTRAL,
        changes=_PAIRS,
        when=lambda facts: facts.whole("expert_count", 0, low=0) > 0,
    ),
    Architecture("llama", "llama", (*_LLAMA, _MAY_TIE, *_BIASES), changes=_PAIRS),
    Architecture(
        "smollm3",
        "smollm3",
        (*_LLAMA, _MAY_TIE, Always({"no_rope_layer_interval": 4})),
        changes=_PAIRS,
    ),
    Architecture(
        "granite",
        "granite",
        (
            *_SHARED,
            _MAY_TIE,
            *_BIASES,
            Real(
                "attention.scale",
                "attention_multiplier",
                lambda spec: spec.attention_scale,
                otherwise=lambda facts: head_dim(facts) ** -0.5,
            ),
            Real("embedding_scale", "embedding_multiplier", lambda spec: spec.embedding_scale, otherwise=lambda _: 1.0),
            Real("residual_scale", "residual_multiplier", lambda spec: spec.residual_scale, otherwise=lambda _: 1.0),
            Real("logit_scale", "logits_scaling", lambda spec: 1 / spec.logit_scale),
        ),
        changes=_PAIRS,
    ),
    Architecture("qwen2", "qwen2", (*_SHARED, _MAY_TIE)),
    Architecture("qwen3", "qwen3", (*_LLAMA, _MAY_TIE)),
    Architecture(
        "qwen3moe",
        "qwen3_moe",
        (
            *_LLAMA,
            _MAY_TIE,
            ExpertCounts("num_experts"),
            Whole("expert_feed_forward_length", "moe_intermediate_size", lambda spec: spec.layers[0].ffn),
            Always({"norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": []}),
        ),
        block=EXPERTS,
    ),
    Architecture(
        "olmoe",
        "olmoe",
        (*_SHARED, _UNTIED, ExpertCounts("num_experts"), Always({"norm_topk_prob": False})),
        block=EXPERTS,
    ),
    Architecture(
        "olmo2",
        "olmo3",
        (*_SHARED, _UNTIED, Windows(period=4)),
        rotation=NearAndFar(near_theta=None),
        block=POST_NORM,
        when=lambda facts: facts.whole("attention.sliding_window", 0, low=0) > 0,
    ),
    Architecture("olmo2", "olmo2", (*_SHARED, _UNTIED), block=POST_NORM),
    Architecture("gemma", "gemma", (*_GEMMA, _TIED), changes=_FROM_ONE),
    Architecture(
        "gemma2",
        "gemma2",
        (
            *_GEMMA,
            _TIED,
            Windows(period=2, length=4096),
            QueryScale(largest=46),
            Real(
                "attn_logit_softcapping",
                "attn_logit_softcapping",
                lambda spec: spec.attention_softcap,
                otherwise=lambda _: 50.0,
            ),
            Real(
                "final_logit_softcapping",
                "final_logit_softcapping",
                lambda spec: spec.logit_softcap,
                otherwise=lambda _: 30.0,
            ),
        ),
        block=SANDWICH,
        changes=_FROM_ONE,
    ),
    Architecture(
        "gemma3",
        "gemma3_text",
        (
            *_GEMMA,
            _MAY_TIE,
            Windows(period=6),
            QueryScale(largest=62),
            Real(
                "final_logit_softcapping",
                "final_logit_softcapping",
                lambda spec: spec.logit_softcap,
                is_optional=True,
            ),
        ),
        rotation=NearAndFar(near_theta=10_000.0),
        block=SANDWICH,
        changes=_FROM_ONE,
    ),
    Architecture("phi3", "phi3", (*_SHARED, _MAY_TIE, OneWindow()), rotation=LongRotation(), block=PHI3),
    Architecture(
        "stablelm",
        "stablelm",
        (
            *_SIZES,
            _UNTIED,
            _FFN,
            HeadDim(is_free=False),
            _SILU,
            Real("attention.layer_norm_epsilon", "layer_norm_eps", lambda spec: spec.norm_eps),
            HasTensor("use_qkv_bias", "blk.0.attn_q.bias"),
            HasTensor("use_parallel_residual", "blk.0.ffn_norm.weight", is_there=False),
            HasTensor("qk_layernorm", "blk.0.attn_q_norm.weight"),
        ),
        rotation=Rotation(may_be_partial=True),
    ),
    Architecture(
        "starcoder2",
        "starcoder2",
        (
            *_SIZES,
            _MAY_TIE,
            _FFN,
            HeadDim(is_free=False),
            Always({"hidden_act": "gelu_pytorch_tanh", "use_bias": True}),
            Real("attention.layer_norm_epsilon", "norm_epsilon", lambda spec: spec.norm_eps),
        ),
        block=STARCODER2,
    ),
    Architecture(
        "gpt2",
        "gpt2",
        (
            VocabularySize(),
            Layers("n_layer"),
            Whole("context_length", "n_positions", lambda spec: spec.context),
            Whole("embedding_length", "n_embd", lambda spec: spec.width),
            Whole("attention.head_count", "n_head", lambda spec: spec.heads),
            Whole("feed_forward_length", "n_inner", lambda spec: spec.layers[0].ffn),
            Real("attention.layer_norm_epsilon", "layer_norm_epsilon", lambda spec: spec.norm_eps),
            Always({"activation_function": "gelu_new"}),
            _MAY_TIE,
        ),
        rotation=NoRotation(),
        block=GPT2,
        outside=GPT2_OUTSIDE,
        changes=dict.fromkeys(("attn_qkv", "attn_output", "ffn_up", "ffn_down"), TURNED),
    ),
)
