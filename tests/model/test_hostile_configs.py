"""A `config.json` may come from anyone: whatever it holds, there is a spec that a decoder can have, or our error."""

import json
import math
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.model.cases import CASES
from tests.model.conftest import ONE_OF_EACH

from rhapsode.core.errors import RhapsodeError
from rhapsode.model.families.registry import FAMILIES, spec_from_config
from rhapsode.model.parameters import disk_shapes, shapes
from rhapsode.model.spec import ModelSpec

KEYS = sorted({key for config in CASES.values() for key in config} | {"auto_map", "architectures", "n_ctx", "dtype"})
WORDS = ("linear", "yarn", "llama3", "longrope", "default", "silu", "gelu", "full_attention", "sliding_attention")
NUMBERS = (0, -1, 1, 2, 3, 10**9, 2**31, 2**63, 10**400, 1e300, 1e-300, math.nan, math.inf, -math.inf, 0.5, 1.0, 1.5)

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(NUMBERS),
    st.sampled_from(WORDS),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
)
names = st.one_of(
    st.sampled_from(KEYS), st.sampled_from(["factor", "rope_type", "type", "short_factor"]), st.text(max_size=5)
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4), max_leaves=8
)


def is_sound(spec: ModelSpec) -> bool:
    """Whether every number of it is one that a decoder can be made of."""
    ropes = {layer.rope for layer in spec.layers if layer.rope}
    numbers = [spec.norm_eps, spec.attention_scale, spec.embedding_scale, spec.residual_scale, spec.logit_scale]
    for rope in ropes:
        numbers += [rope.scale, *rope.frequencies()] if rope.dims < 10_000 else [rope.scale]
    windows = [layer.window for layer in spec.layers if layer.window is not None]
    return all(map(math.isfinite, numbers)) and all(window > 0 for window in windows) and spec.parameters > 0


def try_out(config: dict[str, Any]) -> None:
    try:
        spec = spec_from_config(config)
    except RhapsodeError as caught:
        error: RhapsodeError | None = caught
    else:
        error = None
        assert is_sound(spec)
        assert shapes(spec)
    if error:
        assert error.hint
        assert len(error.message) < 10_000


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=40)
@given(changes=st.dictionaries(st.sampled_from(KEYS), values, min_size=1, max_size=3))
def test_any_values_anywhere(family: str, changes: dict[str, Any]) -> None:
    try_out({**CASES[ONE_OF_EACH[family]], **changes})


@pytest.mark.parametrize(
    "case", [case for case, config in CASES.items() if {"rope_scaling", "rope_parameters"} & config.keys()]
)
@settings(max_examples=30)
@given(data=st.data())
def test_any_values_inside_the_rope_parameters(case: str, data: st.DataObject) -> None:
    config = json.loads(json.dumps(CASES[case]))
    rope = config.get("rope_scaling") or config["rope_parameters"]
    inner = rope if data.draw(st.booleans()) or "full_attention" not in rope else rope["full_attention"]
    inner[data.draw(st.sampled_from(sorted(inner)) | names)] = data.draw(values)
    try_out(config)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("value", [[], {}, "8", 8.0, True, -8, 0, 10**400, math.nan, math.inf, [8], {"8": 8}])
def test_a_size_that_is_no_size_is_refused_by_name(family: str, value: Any) -> None:
    config = CASES[ONE_OF_EACH[family]]
    sizes = {key for key in config if key.startswith(("num_", "n_")) or key.endswith("_size")} & config.keys()
    assert len(sizes) > 3
    for key in sizes:
        with pytest.raises(RhapsodeError, match=key):
            spec_from_config({**config, key: value})


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"num_attention_heads": 5}, "num_attention_heads"),
        ({"num_key_value_heads": 3}, "num_key_value_heads"),
        ({"num_attention_heads": -4}, "num_attention_heads"),
        ({"head_dim": 0}, "head_dim"),
        ({"head_dim": 7}, "7 of 7 dimensions"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers"),
        ({"vocab_size": 2**31 - 1, "hidden_size": 2**31 - 8}, "parameters"),
        ({"rope_theta": 1.0}, "rope_theta"),
        ({"rope_scaling": {"type": "linear", "factor": 0}}, "factor"),
        ({"rope_scaling": {"type": "yarn", "factor": 2.0, "beta_fast": 1, "beta_slow": 2}}, "beta_slow"),
        ({"eos_token_id": [1, "2"]}, "eos_token_id"),
        ({"hidden_act": ["silu"]}, "hidden_act"),
        ({"tie_word_embeddings": "no"}, "tie_word_embeddings"),
        ({"rms_norm_eps": math.nan}, "rms_norm_eps"),
    ],
)
def test_what_cannot_be_is_named(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(RhapsodeError, match=named):
        spec_from_config({**CASES["llama"], **changes})


@pytest.mark.parametrize("layers", [5, [1.0], [[1]], ["1"], {"1": 1}, True])
def test_a_list_of_layers_that_is_none_is_refused(layers: Any) -> None:
    with pytest.raises(RhapsodeError, match="mlp_only_layers"):
        spec_from_config({**CASES["qwen3_moe"], "mlp_only_layers": layers})


def test_too_many_experts_are_refused() -> None:
    with pytest.raises(RhapsodeError, match="num_experts"):
        spec_from_config({**CASES["qwen3_moe"], "num_experts": 10**6})


@pytest.mark.parametrize(
    "changes",
    [
        {f"strange_{index}": index for index in range(20_000)},
        {"x" * 1_000_000: "y" * 1_000_000},
        {"hidden_act": ["silu"] * 100_000},
        {"num_hidden_layers": int("9" * 4_000)},
        {"layer_types": ["full_attention"] * 100_000},
        {"eos_token_id": ["1"] * 100_000},
    ],
)
def test_a_bloated_config_is_refused_in_a_short_message_and_little_memory(changes: dict[str, Any]) -> None:
    config = {**CASES["qwen2"], **changes}
    tracemalloc.start()
    try:
        with pytest.raises(RhapsodeError) as caught:
            spec_from_config(config)
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()
    assert len(caught.value.message) < 10_000


def test_the_deepest_model_that_is_understood_costs_no_more_than_its_names() -> None:
    tracemalloc.start()
    try:
        spec = spec_from_config({**CASES["llama"], "num_hidden_layers": 512})
        assert len(disk_shapes(spec)) == 3 + 512 * 9
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()
