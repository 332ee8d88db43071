import dataclasses
import json
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.conftest import make_spec

from rhapsode.core.errors import RhapsodeError
from rhapsode.model.decoder import Decoder
from rhapsode.model.families import FAMILIES, config_from_spec, disk_names, fused_rows, spec_from_config
from rhapsode.model.spec import LayerSpec, ModelSpec


@st.composite
def specs(draw: st.DrawFn) -> ModelSpec:
    small = st.integers(1, 9)
    family, groups, kv_heads = draw(st.sampled_from(sorted(FAMILIES))), draw(small), draw(small)
    layer = LayerSpec(ffn=draw(small), rope_theta=draw(st.sampled_from([1e4, 5e5, 1e6])))
    return ModelSpec(
        family=family,
        vocab_size=draw(st.integers(5, 9999)),
        width=draw(st.integers(1, 999)),
        layers=(layer,) * draw(small),
        heads=groups * kv_heads,
        kv_heads=kv_heads,
        head_dim=2 * draw(small),
        norm_eps=draw(st.sampled_from([1e-6, 1e-5])),
        qk_norm=FAMILIES[family].qk_norm,
        tied=draw(st.booleans()),
        context=draw(st.integers(1, 99999)),
        bos=0,
        eos=draw(st.sampled_from([(1,), (1, 4)])),
        pad=2,
    )


@given(specs())
def test_a_spec_survives_the_way_through_config_json(spec: ModelSpec) -> None:
    config = json.loads(json.dumps(config_from_spec(spec, dtype="float32")))
    assert spec_from_config(config) == spec


def config(**changes: Any) -> dict[str, Any]:
    return {**config_from_spec(make_spec(), dtype="float32"), **changes}


@pytest.mark.parametrize("model_type", ["gpt2", "gemma3", "", None, 3])
def test_an_unknown_family_is_refused_by_name(model_type: Any) -> None:
    with pytest.raises(RhapsodeError, match="model_type") as caught:
        spec_from_config(config(model_type=model_type))
    assert repr(model_type) in caught.value.message


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rope_scaling", {"rope_type": "llama3", "factor": 8.0}),
        ("rope_scaling", {"type": "linear", "factor": 2.0}),
        ("rope_parameters", {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0}),
        ("rope_parameters", {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}),
        ("rope_parameters", {"full_attention": {"rope_type": "default", "rope_theta": 1e4}}),
        ("hidden_act", "gelu"),
        ("attention_bias", True),
        ("mlp_bias", True),
        ("sliding_window", 4096),
        ("use_sliding_window", True),
        ("layer_types", ["full_attention", "sliding_attention"]),
        ("pretraining_tp", 2),
        ("quantization_config", {"bits": 4}),
        ("partial_rotary_factor", 0.25),
    ],
)
def test_what_would_change_the_computation_is_refused_by_name(key: str, value: Any) -> None:
    with pytest.raises(RhapsodeError, match=key):
        spec_from_config(config(**{key: value}))


@pytest.mark.parametrize("key", ["vocab_size", "hidden_size", "num_attention_heads", "rms_norm_eps"])
def test_a_missing_size_is_named(key: str) -> None:
    shorter = config()
    del shorter[key]
    with pytest.raises(RhapsodeError, match=f"lacks '{key}'"):
        spec_from_config(shorter)


def test_both_spellings_of_the_rope_base_are_read() -> None:
    old = config(rope_theta=5e5)
    del old["rope_parameters"]
    new = config(rope_parameters={"rope_type": "default", "rope_theta": 5e5})
    del new["rope_theta"]
    assert spec_from_config(old) == spec_from_config(new)
    assert spec_from_config(old).layers[0].rope_theta == 5e5


@pytest.mark.parametrize("family", FAMILIES)
def test_every_parameter_has_names_on_disk_and_no_two_share_one(family: str) -> None:
    spec = dataclasses.replace(make_spec(tied=False), family=family, qk_norm=FAMILIES[family].qk_norm)
    with torch.device("meta"):
        params = dict(Decoder(spec).named_parameters())
    names = [disk for name in params for disk in disk_names(name)]
    assert len(names) == len(set(names))
    for name, param in params.items():
        rows = fused_rows(name, spec)
        assert (rows is None) == (len(disk_names(name)) == 1)
        assert rows is None or sum(rows) == param.shape[0]
