"""A tiny model of transformers as a GGUF file, by the names and rules of llama.cpp's own converter.

Nothing of the package under test is used: names come from the gguf package, and what the converter does to numbers is
written down again here.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import MODEL_ARCH, RopeScalingType
from tests.weights.gguf.vocabularies import finish

Array = np.ndarray[Any, np.dtype[np.float32]]
Config = Mapping[str, Any]

ARCHITECTURES = {
    **dict.fromkeys(("llama", "mistral", "mixtral"), MODEL_ARCH.LLAMA),
    "smollm3": MODEL_ARCH.SMOLLM3,
    "granite": MODEL_ARCH.GRANITE,
    "qwen2": MODEL_ARCH.QWEN2,
    "qwen3": MODEL_ARCH.QWEN3,
    "qwen3_moe": MODEL_ARCH.QWEN3MOE,
    "olmoe": MODEL_ARCH.OLMOE,
    "olmo2": MODEL_ARCH.OLMO2,
    "olmo3": MODEL_ARCH.OLMO2,
    "gemma": MODEL_ARCH.GEMMA,
    "gemma2": MODEL_ARCH.GEMMA2,
    "gemma3_text": MODEL_ARCH.GEMMA3,
    "phi3": MODEL_ARCH.PHI3,
    "stablelm": MODEL_ARCH.STABLELM,
    "starcoder2": MODEL_ARCH.STARCODER2,
    "gpt2": MODEL_ARCH.GPT2,
}
IN_PAIRS = (MODEL_ARCH.LLAMA, MODEL_ARCH.SMOLLM3, MODEL_ARCH.GRANITE)
FROM_ONE = (MODEL_ARCH.GEMMA, MODEL_ARCH.GEMMA2, MODEL_ARCH.GEMMA3)
EXPERT = re.compile(r"(.*\.experts)\.(\d+)\.(.*)")
MERGED = {"block_sparse_moe.experts.": "feed_forward.experts."}  # the converter's own name for Mixtral's, merged


def write_official(
    path: Path,
    config: Config,
    tensors: Mapping[str, Array],
    *,
    say_vocabulary: Callable[[gguf.GGUFWriter], None],
    kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32,
    keep: Sequence[str] = (),
) -> Path:
    """The file; matrices are of `kind`, vectors and what is to `keep` in full."""
    arch = ARCHITECTURES[config["model_type"]]
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[arch])
    _say_settings(writer, config, arch)
    say_vocabulary(writer)
    for name, values in _converted(config, tensors, arch).items():
        if values.ndim == 1 or name.split(".")[-2] in keep or kind == gguf.GGMLQuantizationType.F32:
            writer.add_tensor(name, np.ascontiguousarray(values, np.float32))
        else:
            writer.add_tensor(name, gguf.quants.quantize(np.ascontiguousarray(values), kind), raw_dtype=kind)
    return finish(writer)


def _converted(config: Config, tensors: Mapping[str, Array], arch: MODEL_ARCH) -> dict[str, Array]:
    layers = config.get("num_hidden_layers", config.get("n_layer"))
    names = gguf.get_tensor_name_map(arch, layers)
    heads = config.get("num_attention_heads", config.get("n_head"))
    key_heads = config.get("num_key_value_heads", heads)
    found: dict[str, Array] = {}
    experts: dict[str, list[Array]] = {}
    for name, values in tensors.items():
        if arch in IN_PAIRS and name.endswith(("q_proj.weight", "q_proj.bias")):
            values = _permuted(values, heads)
        if arch in IN_PAIRS and name.endswith(("k_proj.weight", "k_proj.bias")):
            values = _permuted(values, key_heads)
        if arch in FROM_ONE and name.endswith("norm.weight"):
            values = values + 1
        if arch == MODEL_ARCH.GPT2 and name.endswith((".c_attn.weight", ".c_proj.weight", ".c_fc.weight")):
            values = values.T
        if expert := EXPERT.fullmatch(name):
            experts.setdefault(f"{expert[1]}.{expert[3]}", []).append(values)
            assert len(experts[f"{expert[1]}.{expert[3]}"]) == int(expert[2]) + 1
            continue
        found[_name(names, name)] = values
    merged = {_name(names, name): np.stack(values) for name, values in experts.items()}
    return found | merged | _extra(config)


def _name(names: gguf.TensorNameMap, name: str) -> str:
    for ours, theirs in MERGED.items():
        name = name.removeprefix("model.").replace(ours, theirs) if ours in name else name
    found = names.get_name(name, try_suffixes=(".weight", ".bias"))
    assert found is not None, name
    return found


def _permuted(values: Array, heads: int) -> Array:
    rows = values.shape[0] // heads // 2
    return values.reshape(heads, 2, rows, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)


def _rope(config: Config) -> dict[str, Any]:
    """What the converter calls rope_parameters: of the layers that see everything."""
    nested = config.get("rope_parameters") or {}
    values = {**(config.get("rope_scaling") or {}), **nested.get("full_attention", nested)}
    values.setdefault("rope_type", values.get("type", "default"))
    values.setdefault("rope_theta", config.get("rope_theta"))
    return values


def _extra(config: Config) -> dict[str, Array]:
    """Tensors by which positions are stretched."""
    rope = _rope(config)
    if rope["rope_type"] == "longrope":
        kinds = {"long": rope["long_factor"], "short": rope["short_factor"]}
        return {f"rope_factors_{kind}.weight": np.array(values, np.float32) for kind, values in kinds.items()}
    if rope["rope_type"] != "llama3":
        return {}
    dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    first = rope["original_max_position_embeddings"]
    factors = []
    for index in range(0, dim, 2):
        length = 2 * math.pi * rope["rope_theta"] ** (index / dim)
        smooth = (first / length - rope["low_freq_factor"]) / (rope["high_freq_factor"] - rope["low_freq_factor"])
        smooth = min(1.0, max(0.0, smooth))
        factors.append(1 / ((1 - smooth) / rope["factor"] + smooth))
    return {"rope_freqs.weight": np.array(factors, np.float32)}


def _say_settings(writer: gguf.GGUFWriter, config: Config, arch: MODEL_ARCH) -> None:
    if arch == MODEL_ARCH.GPT2:
        writer.add_block_count(config["n_layer"])
        writer.add_context_length(config["n_positions"])
        writer.add_embedding_length(config["n_embd"])
        writer.add_feed_forward_length(config.get("n_inner") or 4 * config["n_embd"])
        writer.add_head_count(config["n_head"])
        writer.add_layer_norm_eps(config["layer_norm_epsilon"])
        return
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    if "rms_norm_eps" in config:
        writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    if eps := config.get("layer_norm_eps", config.get("norm_epsilon")):
        writer.add_layer_norm_eps(eps)
    if "head_dim" in config:
        writer.add_key_length(config["head_dim"])
        writer.add_value_length(config["head_dim"])
    if arch not in (MODEL_ARCH.GEMMA, MODEL_ARCH.GEMMA2, MODEL_ARCH.STABLELM):
        _say_rope(writer, config, arch)
    _say_rest(writer, config, arch)


def _say_rope(writer: gguf.GGUFWriter, config: Config, arch: MODEL_ARCH) -> None:
    rope = _rope(config)
    if rope["rope_theta"] is not None:
        writer.add_rope_freq_base(rope["rope_theta"])
    if local := config.get("rope_local_base_freq"):
        writer.add_rope_freq_base_swa(local)
    if rope["rope_type"] == "linear":
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    if rope["rope_type"] == "yarn":
        writer.add_rope_scaling_type(RopeScalingType.YARN)
        writer.add_rope_scaling_factor(rope["factor"])
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
        writer.add_rope_scaling_yarn_beta_fast(rope["beta_fast"])
        writer.add_rope_scaling_yarn_beta_slow(rope["beta_slow"])
    if arch in IN_PAIRS:
        writer.add_vocab_size(config["vocab_size"])
        writer.add_rope_dimension_count(
            config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
        )


def _say_rest(writer: gguf.GGUFWriter, config: Config, arch: MODEL_ARCH) -> None:
    """What single architectures have besides."""
    head_dim = config["hidden_size"] // config["num_attention_heads"]
    if count := config.get("num_local_experts", config.get("num_experts")):
        writer.add_expert_count(count)
        writer.add_expert_used_count(config["num_experts_per_tok"])
    if "moe_intermediate_size" in config:
        writer.add_expert_feed_forward_length(config["moe_intermediate_size"])
    if arch == MODEL_ARCH.GRANITE:
        writer.add_attention_scale(config["attention_multiplier"])
        writer.add_embedding_scale(config["embedding_multiplier"])
        writer.add_residual_scale(config["residual_multiplier"])
        writer.add_logit_scale(config["logits_scaling"])
    if arch == MODEL_ARCH.GEMMA2:
        writer.add_attn_logit_softcapping(config["attn_logit_softcapping"])
        writer.add_final_logit_softcapping(config["final_logit_softcapping"])
    if arch in (MODEL_ARCH.GEMMA2, MODEL_ARCH.GEMMA3):
        writer.add_sliding_window(config["sliding_window"])
    if config["model_type"] == "olmo3":
        writer.add_sliding_window(config["sliding_window"])
        writer.add_sliding_window_pattern([kind == "sliding_attention" for kind in config["layer_types"]])
    if arch == MODEL_ARCH.STABLELM:
        writer.add_rope_dimension_count(int(config.get("partial_rotary_factor", 0.25) * head_dim))
        writer.add_parallel_residual(use=False)
    if arch == MODEL_ARCH.PHI3:
        first = config.get("original_max_position_embeddings", config["max_position_embeddings"])
        writer.add_rope_scaling_orig_ctx_len(first)
        writer.add_rope_dimension_count(int(config.get("partial_rotary_factor", 1.0) * head_dim))
        writer.add_sliding_window(config.get("sliding_window") or 0)
        if _rope(config)["rope_type"] == "longrope":
            scale = config["max_position_embeddings"] / first
            writer.add_rope_scaling_attn_factors(math.sqrt(1 + math.log(scale) / math.log(first)))
