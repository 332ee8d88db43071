"""GPT-2 (Radford et al. 2019): learned positions, layer norms, biases, a feed-forward without a gate."""

from rhapsode.model.families.fields import Fields
from rhapsode.model.families.names import Names
from rhapsode.model.families.standard import ACTIVATIONS, MOST_LAYERS, divided, read_ends
from rhapsode.model.spec import LayerSpec, ModelSpec


def gpt2(f: Fields) -> ModelSpec:
    f.only("scale_attn_weights", [True])
    f.off("scale_attn_by_inverse_layer_idx")
    f.off("reorder_and_upcast_attn")
    f.get("n_ctx")  # n_positions under an older name
    width, heads = f.whole("n_embd"), f.whole("n_head")
    head_dim = divided(f, width, heads)
    return ModelSpec(
        family="gpt2",
        vocab_size=f.whole("vocab_size"),
        width=width,
        layers=(LayerSpec(f.whole("n_inner", 4 * width)),) * f.whole("n_layer", high=MOST_LAYERS),
        heads=heads,
        kv_heads=heads,
        head_dim=head_dim,
        norm="layer",
        norm_eps=f.number("layer_norm_epsilon"),
        activation=f.choice("activation_function", ACTIVATIONS),
        gated=False,
        qkv_bias=True,
        out_bias=True,
        ffn_bias=True,
        learned_positions=True,
        tied=f.flag("tie_word_embeddings", default=True),
        context=f.whole("n_positions"),
        eos=read_ends(f),
        attention_scale=head_dim**-0.5,
        config=f.config,
    )


GPT2_NAMES = Names(
    layer="transformer.h.{}.",
    inside={
        "attention.qkv": ("attn.c_attn",),
        "attention.out": ("attn.c_proj",),
        "attention_norm": ("ln_1",),
        "ffn_norm": ("ln_2",),
        "ffn.up": ("mlp.c_fc",),
        "ffn.down": ("mlp.c_proj",),
    },
    outside={
        "embedding": ("transformer.wte",),
        "positions": ("transformer.wpe",),
        "norm": ("transformer.ln_f",),
        "head": ("lm_head",),
    },
    transposed=frozenset({"attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"}),
)
