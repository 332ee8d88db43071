import math
from typing import Any

import numpy as np
import pytest
from tests.model.cases import CASES, GEMMA2, LLAMA, of

from rhapsode.core.errors import RhapsodeError
from rhapsode.model.families.registry import FAMILIES, spec_from_config
from rhapsode.model.parameters import disk_shapes
from rhapsode.model.spec import ModelSpec
from rhapsode.weights.gguf.architectures import Written, links, read_config, write_settings
from rhapsode.weights.gguf.facts import Facts
from rhapsode.weights.gguf.table import ARCHITECTURES

# what llama.cpp cannot say, or would compute otherwise, and the property that would be lost
LOST = {
    "gemma, biased, untied": "tied False would be True; qkv_bias True would be False",
    "gemma2": "attention_scale",
    "gemma2, listed layers, usual caps": "attention_scale",
    "gemma3": "attention_scale",
    "gemma3, older spelling": "attention_scale",
    "gpt2, untied, wider, another activation": "activation gelu would be gelu_tanh",
    "llama, yarn": "rope of layer 0",
    "mistral": "window of layer 0 9 would be None",
    "mixtral": "window of layer 0 11 would be None",
    "olmo2, biased": "tied True would be False",
    "olmoe": "experts of layer 0",
    "olmoe, as they come": "qkv_bias",
    "qwen2": "window of layer 1 9 would be None",
    "qwen3, biased, listed layers": "window of layer 0",
    "qwen3_moe": "no tensor for model.layers.1.mlp.gate_proj.weight",
    "qwen3_moe, every second layer, as they come": "no tensor for model.layers.0.mlp.gate_proj.weight",
    "smollm3, listed layers, windows": "rope of layer 0 None would be",
    "starcoder2": "window of layer 0",
    "starcoder2, without biases": "ffn_bias False would be True",
}
SAYABLE = [case for case in CASES if case not in LOST]


def facts(written: Written, spec: ModelSpec, **changes: Any) -> Facts:
    """A file that says what was written, with other values under some keys, or none."""
    shapes = {link.gguf: link.shape for link in links(spec)} | {n: v.shape for n, v in written.vectors.items()}
    name = written.metadata["general.architecture"]
    metadata = written.metadata | {f"{name}.{key}": value for key, value in changes.items()}
    metadata = {key: value for key, value in metadata.items() if value is not None}
    return Facts(metadata, shapes, vectors=written.vectors.__getitem__, where="a.gguf")


def turns(spec: ModelSpec) -> list[list[float]]:
    return [[] if layer.rope is None else [layer.rope.scale, *layer.rope.frequencies()] for layer in spec.layers]


@pytest.mark.parametrize("case", SAYABLE)
def test_what_is_written_about_a_decoder_is_read_as_that_decoder(case: str) -> None:
    spec = spec_from_config(CASES[case])
    again = spec_from_config(read_config(facts(write_settings(spec), spec)))
    for ours, theirs in zip(turns(spec), turns(again), strict=True):
        np.testing.assert_allclose(theirs, ours, rtol=1e-5)
    same = ("vocab_size", "width", "heads", "kv_heads", "head_dim", "tied", "norm", "qk_norm", "qkv_bias", "context")
    assert [getattr(again, name) for name in same] == [getattr(spec, name) for name in same]
    scales = ("norm_eps", "attention_scale", "embedding_scale", "residual_scale", "logit_scale")
    assert [getattr(again, s) for s in scales] == pytest.approx([getattr(spec, s) for s in scales], rel=1e-6)
    seen = [(layer.ffn, layer.window, layer.experts) for layer in spec.layers]
    assert [(layer.ffn, layer.window, layer.experts) for layer in again.layers] == seen
    assert disk_shapes(again) == disk_shapes(spec)


@pytest.mark.parametrize("case", LOST)
def test_a_decoder_that_llama_cpp_has_no_words_for_is_refused_with_what_would_be_lost(case: str) -> None:
    with pytest.raises(RhapsodeError, match=r"llama\.cpp has no") as caught:
        write_settings(spec_from_config(CASES[case]))
    assert LOST[case] in caught.value.message


GEMMA_SCALED = GEMMA2 | {"query_pre_attn_scalar": 16}
AS_PUBLISHED = [
    of("gemma2", GEMMA_SCALED, attn_logit_softcapping=2.0, final_logit_softcapping=4.0),
    of("gemma3_text", GEMMA_SCALED, num_hidden_layers=7, rope_theta=1e6),
    of("mixtral", LLAMA, num_local_experts=5, num_experts_per_tok=2),
    of("olmoe", LLAMA, num_experts=6, num_experts_per_tok=3, norm_topk_prob=False),
    of("qwen3_moe", LLAMA, num_experts=6, num_experts_per_tok=3, moe_intermediate_size=24, norm_topk_prob=True),
    of("starcoder2", LLAMA, rms_norm_eps=None, norm_epsilon=0.05, hidden_act="gelu_pytorch_tanh"),
]


@pytest.mark.parametrize("config", AS_PUBLISHED, ids=lambda config: config["model_type"])
def test_families_whose_cases_llama_cpp_lacks_are_written_as_they_are_published(config: dict[str, Any]) -> None:
    spec = spec_from_config(config)
    again = spec_from_config(read_config(facts(write_settings(spec), spec)))
    assert again.layers == spec.layers
    assert again.attention_scale == spec.attention_scale
    assert (again.attention_softcap, again.logit_softcap) == (spec.attention_softcap, spec.logit_softcap)


def test_every_family_has_a_row_and_is_written_by_some_case() -> None:
    assert {row.model_type for row in ARCHITECTURES} | {"mistral"} == set(FAMILIES)
    assert {config["model_type"] for config in [*map(CASES.get, SAYABLE), *AS_PUBLISHED] if config} == set(FAMILIES)


@pytest.mark.parametrize("case", SAYABLE)
def test_every_tensor_of_the_directory_has_one_place_in_the_file(case: str) -> None:
    spec = spec_from_config(CASES[case])
    found = list(links(spec))
    assert sorted(name for link in found for name in link.disk) == sorted(disk_shapes(spec))
    assert len({link.gguf for link in found}) == len(found)
    sizes = {name: math.prod(shape) for name, shape in disk_shapes(spec).items()}
    for link in found:
        assert math.prod(link.shape) == sum(sizes[name] for name in link.disk)


@pytest.mark.parametrize("case", SAYABLE)
def test_a_change_is_undone_by_its_other_half(case: str) -> None:
    spec = spec_from_config(CASES[case])
    random = np.random.default_rng(0)
    for link in links(spec):
        shape = link.shape[1:] if len(link.disk) > 1 else link.shape
        values = random.integers(-9, 9, shape).astype(np.float32)
        changed = link.change.to_disk(values, spec.head_dim)
        assert changed.shape == disk_shapes(spec)[link.disk[0]]
        np.testing.assert_array_equal(link.change.to_gguf(changed, spec.head_dim), values)


PUBLISHED = {
    "llama 3.1": (8.0, 1.0, 4.0, 8192, 500_000.0, 128),
    "llama 3.2": (32.0, 1.0, 4.0, 8192, 500_000.0, 64),
    "few dimensions": (8.0, 1.0, 4.0, 32, 10_000.0, 8),
    "none between": (8.0, 1.0, 4.0, 8192, 500_000.0, 4),
    "other limits": (16.0, 2.0, 12.0, 4096, 10_000.0, 64),
    "an odd context": (4.0, 1.0, 4.0, 5000, 10_000.0, 64),
}


@pytest.mark.parametrize("case", PUBLISHED)
def test_the_stretch_of_llama_3_is_found_from_its_factors(case: str) -> None:
    factor, low, high, context, theta, dims = PUBLISHED[case]
    scaling = {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": low,
        "high_freq_factor": high,
        "original_max_position_embeddings": context,
    }
    config = of("llama", LLAMA, head_dim=dims, rope_theta=theta, rope_scaling=scaling, max_position_embeddings=131072)
    spec = spec_from_config(config)
    read = read_config(facts(write_settings(spec), spec))
    np.testing.assert_allclose(turns(spec_from_config(read)), turns(spec), rtol=1e-5)
    if case.startswith("llama"):
        assert read["rope_scaling"] == scaling


def test_factors_that_no_stretch_of_llama_3_has_are_refused() -> None:
    spec = spec_from_config(of("llama", LLAMA))
    file = write_settings(spec)
    file.vectors["rope_freqs.weight"] = np.array([1, 5, 2, 9, 3, 8], np.float32)
    with pytest.raises(RhapsodeError, match=r"rope_freqs\.weight is not a stretch of Llama 3's kind"):
        read_config(facts(file, spec))


def test_numbers_are_as_short_as_before_they_became_32_bits() -> None:
    spec = spec_from_config(of("llama", LLAMA, rms_norm_eps=1e-5))
    key = "attention.layer_norm_rms_epsilon"
    config = read_config(facts(write_settings(spec), spec, **{key: float(np.float32(1e-5))}))
    assert config["rms_norm_eps"] == 1e-5


def test_one_number_a_layer_is_one_number_if_all_are_the_same() -> None:
    spec = spec_from_config(of("llama", LLAMA))
    config = read_config(facts(write_settings(spec), spec, **{"attention.head_count_kv": [2, 2, 2]}))
    assert config["num_key_value_heads"] == 2
    with pytest.raises(RhapsodeError, match=r"llama\.attention\.head_count_kv is '\[2, 2, 1\]'"):
        read_config(facts(write_settings(spec), spec, **{"attention.head_count_kv": [2, 2, 1]}))


def test_what_the_file_leaves_out_is_what_llama_cpp_takes() -> None:
    spec = spec_from_config(of("llama", LLAMA, num_key_value_heads=4))
    names = ("attention.head_count_kv", "attention.key_length", "attention.value_length", "rope.freq_base")
    config = read_config(facts(write_settings(spec), spec, **dict.fromkeys(names)))
    assert (config["num_key_value_heads"], config["head_dim"], config["rope_theta"]) == (4, 12, 10_000.0)


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("embedding_length", None, "it lacks the key 'llama.embedding_length'"),
        ("embedding_length", 0, "llama.embedding_length is '0'"),
        ("embedding_length", 2**40, "llama.embedding_length is '1099511627776'"),
        ("embedding_length", 1.5, "llama.embedding_length is '1.5'"),
        ("embedding_length", True, "llama.embedding_length is 'True'"),
        ("block_count", 1000, "block_count is 1000, but there are only"),
        ("block_count", 2**31, "llama.block_count is"),
        ("attention.layer_norm_rms_epsilon", -1.0, "llama.attention.layer_norm_rms_epsilon is '-1.0'"),
        ("attention.layer_norm_rms_epsilon", float("nan"), "epsilon is 'nan'"),
        ("attention.value_length", 3, "attention.value_length another"),
        ("rope.dimension_count", 6, "llama.rope.dimension_count is '6'"),
        ("rope.scaling.type", "dynamic", "llama.rope.scaling.type is 'dynamic'"),
        ("rope.scaling.type", 3, "llama.rope.scaling.type is '3'"),
        ("attention.clamp_kqv", 8.0, "llama.attention.clamp_kqv=8.0"),
        ("attention.sliding_window", 4096, "llama.attention.sliding_window=4096"),
        ("expert_shared_count", 1, "llama.expert_shared_count=1"),
        ("a.key.to.come", [1, 2], "llama.a.key.to.come=[1, 2]"),
    ],
)
def test_a_key_that_cannot_be_or_is_not_understood_is_named(key: str, value: Any, complaint: str) -> None:
    spec = spec_from_config(of("llama", LLAMA))
    with pytest.raises(RhapsodeError) as caught:
        read_config(facts(write_settings(spec), spec, **{key: value}))
    assert complaint in caught.value.message
    assert caught.value.message.startswith("a.gguf: ")


def test_heads_that_cannot_share_the_width_are_refused() -> None:
    spec = spec_from_config(of("llama", LLAMA))
    changes = {"attention.head_count": 5, "attention.key_length": None, "attention.value_length": None}
    with pytest.raises(RhapsodeError, match=r"llama\.attention\.head_count is '5'; it must be a divisor"):
        read_config(facts(write_settings(spec), spec, **changes))


def test_keys_that_ask_for_nothing_are_let_pass() -> None:
    spec = spec_from_config(of("llama", LLAMA))
    nothing = {"expert_count": 0, "expert_used_count": 0, "attention.causal": True, "pooling_type": 0}
    assert read_config(facts(write_settings(spec), spec, **nothing)) == read_config(facts(write_settings(spec), spec))


@pytest.mark.parametrize("name", ["mamba", "", "clip", None, 3])
def test_an_unknown_architecture_is_refused(name: Any) -> None:
    metadata = {} if name is None else {"general.architecture": name}
    with pytest.raises(RhapsodeError, match="architecture"):
        read_config(Facts(metadata, {}, vectors={}.__getitem__, where="a.gguf"))


def test_more_experts_than_any_model_has_are_refused_before_they_are_named() -> None:
    spec = spec_from_config(of("mixtral", LLAMA, num_local_experts=5, num_experts_per_tok=2))
    with pytest.raises(RhapsodeError, match=r"llama\.expert_count is"):
        read_config(facts(write_settings(spec), spec, expert_count=2**30))
