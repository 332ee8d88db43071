"""Families of open models: how each one's `config.json` becomes a `ModelSpec` and back.

Names on disk are Hugging Face's. Where the decoder computes several projections as one product, the fusion is a table
here that loading and saving both read.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from rhapsode.core.errors import RhapsodeError
from rhapsode.model.spec import LayerSpec, ModelSpec

Config = Mapping[str, Any]

# our module -> the modules on disk whose rows it stacks, in order
FUSED = {
    "attention.qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "ffn.gate_up": ("mlp.gate_proj", "mlp.up_proj"),
}
RENAMED = {
    "attention.out": "self_attn.o_proj",
    "attention.q_norm": "self_attn.q_norm",
    "attention.k_norm": "self_attn.k_norm",
    "attention_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "ffn.down": "mlp.down_proj",
}
OUTSIDE = {"embedding": "model.embed_tokens", "norm": "model.norm", "head": "lm_head"}


class Family(NamedTuple):
    """What `model_type` stands for.

    Attributes:
        architecture: the class name that `config.json` announces.
        qk_norm: whether queries and keys are normalised, which sets Qwen3 apart from Llama.
        head_dim: of a `config.json` that gives none; None is the width shared among the heads.
    """

    architecture: str
    qk_norm: bool
    head_dim: int | None


FAMILIES = {
    "llama": Family("LlamaForCausalLM", qk_norm=False, head_dim=None),
    "qwen3": Family("Qwen3ForCausalLM", qk_norm=True, head_dim=128),
}

# keys of config.json that change the computation, with the only value that this decoder computes
UNDERSTOOD: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("silu",),
    "attention_bias": (False, None),
    "mlp_bias": (False, None),
    "rope_scaling": (None,),
    "use_sliding_window": (False, None),
    "sliding_window": (None,),
    "pretraining_tp": (1, None),
    "quantization_config": (None,),
    "partial_rotary_factor": (1.0, None),
}


def spec_from_config(config: Config) -> ModelSpec:
    """The spec of a `config.json`.

    Raises:
        RhapsodeError: the family or a field that changes the computation is not understood; never approximated.
    """
    name = config.get("model_type")
    if name not in FAMILIES:
        raise RhapsodeError(
            f"config.json: model_type {name!r} is not a family that Rhapsode knows", f"known: {', '.join(FAMILIES)}"
        )
    odd = [
        f"{key}={config[key]!r}" for key, values in UNDERSTOOD.items() if key in config and config[key] not in values
    ]
    rope = dict(config.get("rope_parameters") or {})
    theta = rope.pop("rope_theta", config.get("rope_theta", 10_000.0))
    odd += [f"rope_parameters.{k}={v!r}" for k, v in rope.items() if (k, v) != ("rope_type", "default")]
    odd += [f"layer_types={kind!r}" for kind in sorted({*(config.get("layer_types") or ())} - {"full_attention"})]
    if odd:
        raise RhapsodeError(f"config.json asks for what this decoder does not compute: {', '.join(odd)}")
    try:
        return _spec(config, FAMILIES[name], float(theta))
    except KeyError as error:
        raise RhapsodeError(f"config.json lacks {error.args[0]!r}", "the directory is not a complete model") from None


def _spec(config: Config, family: Family, theta: float) -> ModelSpec:
    heads = config["num_attention_heads"]
    ends = config.get("eos_token_id")
    return ModelSpec(
        family=config["model_type"],
        vocab_size=config["vocab_size"],
        width=config["hidden_size"],
        layers=(LayerSpec(config["intermediate_size"], theta),) * config["num_hidden_layers"],
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        head_dim=config.get("head_dim") or family.head_dim or config["hidden_size"] // heads,
        norm_eps=config["rms_norm_eps"],
        qk_norm=family.qk_norm,
        tied=config.get("tie_word_embeddings", False),
        context=config["max_position_embeddings"],
        bos=config["bos_token_id"],
        eos=tuple(ends) if isinstance(ends, list) else (ends,) if ends is not None else (),
        pad=config["pad_token_id"] if config.get("pad_token_id") is not None else config["bos_token_id"],
    )


def config_from_spec(spec: ModelSpec, *, dtype: str) -> dict[str, Any]:
    """The `config.json` that transformers, vLLM, llama.cpp and mlx read."""
    first = spec.layers[0]
    return {
        "architectures": [FAMILIES[spec.family].architecture],
        "model_type": spec.family,
        "vocab_size": spec.vocab_size,
        "hidden_size": spec.width,
        "intermediate_size": first.ffn,
        "num_hidden_layers": len(spec.layers),
        "num_attention_heads": spec.heads,
        "num_key_value_heads": spec.kv_heads,
        "head_dim": spec.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": spec.context,
        "rms_norm_eps": spec.norm_eps,
        "rope_theta": first.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": first.rope_theta},
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": spec.tied,
        "bos_token_id": spec.bos,
        "eos_token_id": list(spec.eos) if len(spec.eos) > 1 else spec.eos[0],
        "pad_token_id": spec.pad,
        "dtype": dtype,
        "torch_dtype": dtype,
        "use_cache": True,
    }


def disk_names(name: str) -> tuple[str, ...]:
    """The names on disk of a parameter of the decoder; several where rows are stacked."""
    module, _, kind = name.rpartition(".")
    if module in OUTSIDE:
        return (f"{OUTSIDE[module]}.{kind}",)
    layers, index, inner = module.split(".", 2)
    assert layers == "layers"
    parts = FUSED.get(inner) or (RENAMED[inner],)
    return tuple(f"model.layers.{index}.{part}.{kind}" for part in parts)


def fused_rows(name: str, spec: ModelSpec) -> tuple[int, ...] | None:
    """How many rows each part of a stacked parameter has, or None where nothing is stacked."""
    inner = name.rpartition(".")[0].split(".", 2)[-1]
    rows: dict[str, Callable[[], tuple[int, ...]]] = {
        "attention.qkv": lambda: tuple(h * spec.head_dim for h in (spec.heads, spec.kv_heads, spec.kv_heads)),
        "ffn.gate_up": lambda: (spec.layers[int(name.split(".")[1])].ffn,) * 2,
    }
    return rows[inner]() if inner in rows else None
