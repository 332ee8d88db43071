"""A `config.json` is understood whole or refused by name; both spellings of it and its silence mean what they mean."""

import dataclasses
import json
from typing import Any

import pytest
from tests.model.cases import CASES, GPT2, LLAMA, of
from tests.model.conftest import ONE_OF_EACH, as_transformers_reads

from rhapsode.core.errors import RhapsodeError
from rhapsode.model.families.registry import FAMILIES, spec_from_config
from rhapsode.model.parameters import disk_shapes, parts, shapes
from rhapsode.model.spec import ModelSpec

ALWAYS_ALLOWED = {
    "torch_dtype": "bfloat16",
    "transformers_version": "4.57.1",
    "attention_dropout": 0.1,
    "use_cache": True,
    "pretraining_tp": 2,
    "tokenizer_class": "PreTrainedTokenizerFast",
    "transformers.js_config": {"dtype": "q4"},
}


def config(family: str = "qwen3", /, **changes: Any) -> dict[str, Any]:
    return {**CASES[ONE_OF_EACH[family]], **changes}


def message(read: dict[str, Any]) -> str:
    with pytest.raises(RhapsodeError) as caught:
        spec_from_config(read)
    assert caught.value.hint
    return caught.value.message


@pytest.mark.parametrize("case", CASES)
def test_a_spec_survives_the_way_through_config_json(case: str) -> None:
    spec = spec_from_config(CASES[case])
    again = spec_from_config(json.loads(json.dumps(dict(spec.config))))
    assert again == spec
    assert again.config == spec.config


@pytest.mark.parametrize("model_type", ["gemma3", "gpt_neox", "", None, 3, ["llama"], {"llama": 1}])
def test_an_unknown_family_is_refused_by_name(model_type: Any) -> None:
    assert repr(model_type) in message(config(model_type=model_type))


def test_another_architecture_of_a_known_family_is_refused() -> None:
    assert "LlamaForTokenClassification" in message(config("llama", architectures=["LlamaForTokenClassification"]))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("quantization_config", {"bits": 4}),
        ("add_cross_attention", True),
        ("is_encoder_decoder", True),
        ("num_mtp_layers", 2),
        ("attn_temperature_tuning", True),
        ("alibi", 0.0),
    ],
)
def test_what_no_decoder_here_computes_is_refused_by_name(family: str, key: str, value: Any) -> None:
    assert f"{key}={value!r}" in message(config(family, **{key: value}))
    assert spec_from_config(config(family, **{key: None})) == spec_from_config(config(family))


@pytest.mark.parametrize(
    ("model_type", "key", "value"),
    [
        ("qwen3", "rope_scaling", {"rope_type": "llama3", "factor": 8.0}),
        ("qwen3", "rope_scaling", {"type": "dynamic", "factor": 2.0}),
        ("qwen3", "rope_scaling", {"type": "mrope", "mrope_section": [1, 2, 3]}),
        ("qwen3", "rope_scaling", {"type": "yarn", "factor": 4.0, "mscale": 0.7, "mscale_all_dim": 0.7}),
        ("qwen3", "rope_parameters", {"rope_type": "default", "partial_rotary_factor": 0.5}),
        ("qwen3", "rope_parameters", {"full_attention": {"rope_type": "default", "rope_theta": 1e4}}),
        ("gemma3_text", "rope_parameters", {"rope_type": "default", "rope_theta": 1e4}),
        ("gemma3_text", "layer_types", ["full_attention", "chunked_attention"] * 2),
        ("gemma3_text", "use_bidirectional_attention", True),
        ("qwen3", "hidden_act", "relu"),
        ("qwen3", "mlp_bias", True),
        ("llama", "sliding_window", 4096),
        ("llama", "partial_rotary_factor", 0.25),
        ("olmoe", "clip_qkv", 8.0),
        ("phi3", "lm_head_bias", True),
        ("qwen2", "use_mrope", True),
        ("qwen3_moe", "use_sliding_window", True),
        ("stablelm", "use_parallel_residual", True),
        ("stablelm", "qk_layernorm", True),
        ("starcoder2", "norm_type", "rms_norm"),
        ("gpt2", "scale_attn_by_inverse_layer_idx", True),
    ],
)
def test_what_would_change_the_computation_is_refused_by_name(model_type: str, key: str, value: Any) -> None:
    said = message(config(model_type, **{key: value}))
    assert any(word in said for word in (key, *(value if isinstance(value, dict) else ()))), said


def test_all_that_is_not_understood_is_named_at_once() -> None:
    strange = {f"strange_{index}": index + 1 for index in range(7)}
    said = message(config("gpt2", **strange))
    assert all(f"{key}={value}" in said for key, value in strange.items())


@pytest.mark.parametrize("family", FAMILIES)
def test_bookkeeping_changes_nothing(family: str) -> None:
    assert spec_from_config(config(family, **ALWAYS_ALLOWED)) == spec_from_config(config(family))


@pytest.mark.parametrize("family", FAMILIES)
def test_code_beside_the_model_is_refused(family: str) -> None:
    for code in ({"AutoModelForCausalLM": "modeling_evil.Evil"}, {"AutoConfig": 3}, "modeling_evil.Evil", ["x"]):
        assert "auto_map" in message(config(family, auto_map=code))


@pytest.mark.parametrize(
    "key", ["vocab_size", "hidden_size", "num_attention_heads", "rms_norm_eps", "intermediate_size"]
)
def test_a_missing_size_is_named(key: str) -> None:
    assert f"lacks '{key}'" in message({name: value for name, value in config().items() if name != key})


@pytest.mark.parametrize("case", CASES)
def test_what_a_config_does_not_say_is_what_transformers_takes(case: str) -> None:
    """Each key is left out in turn: refused, or the family's own default. End tokens are the tokenizer's affair."""
    compared = 0
    for key in CASES[case].keys() - {"model_type", "num_key_value_heads"}:  # key heads show in the shapes
        silent = {name: value for name, value in CASES[case].items() if name != key}
        try:
            spec = spec_from_config(silent)
        except RhapsodeError:
            continue
        theirs = spec_from_config(as_transformers_reads(silent))
        assert dataclasses.replace(spec, eos=()) == dataclasses.replace(theirs, eos=()), key
        compared += 1
    assert compared >= 2


def test_null_is_not_silence_where_a_family_has_windows_of_its_own() -> None:
    silent = of("mistral", LLAMA)
    assert {layer.window for layer in spec_from_config(silent).layers} == {4096}
    assert {layer.window for layer in spec_from_config({**silent, "sliding_window": None}).layers} == {None}
    capped = config("gemma2")
    del capped["final_logit_softcapping"]
    assert spec_from_config(capped).logit_softcap == 30
    assert spec_from_config({**capped, "final_logit_softcapping": None}).logit_softcap is None


def test_both_spellings_of_the_rope_base_are_read() -> None:
    old = config(rope_theta=5e5)
    new = {key: value for key, value in old.items() if key != "rope_theta"}
    new["rope_parameters"] = {"rope_type": "default", "rope_theta": 5e5}
    assert spec_from_config(old) == spec_from_config(new)
    rope = spec_from_config(old).layers[0].rope
    assert rope is not None
    assert rope.theta == 5e5


def test_longrope_keeps_to_the_context_of_its_short_factors() -> None:
    spec = spec_from_config(CASES["phi3, longrope on a part of each head, tied"])
    assert spec.context == 48


@pytest.mark.parametrize("case", CASES)
def test_every_parameter_has_names_on_disk_and_no_two_share_one(case: str) -> None:
    spec = spec_from_config(CASES[case])
    names = [part.name for name in shapes(spec) for part in parts(name, spec)]
    assert len(names) == len(set(names)) == len(disk_shapes(spec))
    for name, shape in shapes(spec).items():
        rows = sum(part.rows for part in parts(name, spec))
        assert rows == (shape[0] if len(shape) < 3 else shape[0] * shape[1])


@pytest.mark.parametrize("case", CASES)
def test_training_flops_count_what_each_token_sees(case: str) -> None:
    """6 for each weight of a product, and 12 for each of a head's numbers and each key that a query sees."""
    spec = spec_from_config(CASES[case])
    seen = 0.0
    for layer in spec.layers:
        window = layer.window or 40
        keys = sum(min(place + 0.5, window) for place in range(40))  # itself is seen by half on average
        seen += keys / 40
    expected = 6 * (products(spec) + spec.vocab_size * spec.width) + 12 * seen * spec.heads * spec.head_dim
    assert spec.flops_per_token(40) == pytest.approx(expected, rel=0.01)


def products(spec: ModelSpec) -> int:
    """The weights of the matrices that one token goes through: of experts, those that it takes."""
    total = 0
    for name, shape in shapes(spec).items():
        if name.startswith("layers.") and len(shape) > 1:
            layer = spec.layers[int(name.split(".")[1])]
            whole = shape[0] * shape[1] * (shape[2] if len(shape) == 3 else 1)
            total += whole * layer.experts.per_token // layer.experts.count if len(shape) == 3 else whole
    return total


def test_gpt2_needs_no_names_of_other_families() -> None:
    assert "hidden_size" not in GPT2
    assert spec_from_config(of("gpt2", GPT2)).width == 48
