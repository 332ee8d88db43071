"""Frequencies of rotary positions, plain and stretched, are those of transformers."""

from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from tests.model.cases import LLAMA, of
from tests.model.conftest import their_config
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from rhapsode.model.families.registry import spec_from_config
from rhapsode.model.rope import Rope

thetas = st.sampled_from([50.0, 1e4, 5e5, 1e6])
factors = st.sampled_from([1.0, 1.5, 4.0, 32.0])
contexts = st.sampled_from([16, 100, 4096, 8192])
turns = st.sampled_from([0.25, 0.5, 1.0, 4.0, 32.0])
linear = st.fixed_dictionaries({"rope_type": st.just("linear"), "factor": factors})
llama3 = st.fixed_dictionaries(
    {
        "rope_type": st.just("llama3"),
        "factor": factors,
        "low_freq_factor": turns,
        "high_freq_factor": turns,
        "original_max_position_embeddings": contexts,
    }
).filter(lambda values: values["low_freq_factor"] < values["high_freq_factor"])
yarn = st.fixed_dictionaries(
    {"rope_type": st.just("yarn"), "factor": factors, "original_max_position_embeddings": contexts},
    optional={"beta_fast": turns, "beta_slow": turns, "truncate": st.booleans(), "attention_factor": turns},
).filter(lambda values: values.get("beta_slow", 1.0) < values.get("beta_fast", 32.0))


def close(rope: Rope, theirs: tuple[torch.Tensor, float]) -> None:
    frequencies, scale = theirs
    found = torch.tensor(rope.frequencies(), dtype=torch.float64)
    torch.testing.assert_close(found, frequencies.double(), rtol=1e-5, atol=0)
    assert rope.scale == pytest.approx(scale, rel=1e-6)


def rope_of(config: dict[str, Any]) -> Rope:
    rope = spec_from_config(config).layers[0].rope
    assert rope is not None
    return rope


@pytest.mark.filterwarnings("ignore")
@given(theta=thetas, head_dim=st.integers(1, 40).map(lambda half: 2 * half), values=linear | llama3 | yarn)
def test_stretched_frequencies_are_those_of_transformers(theta: float, head_dim: int, values: dict[str, Any]) -> None:
    config = of("llama", LLAMA, head_dim=head_dim, rope_theta=theta, rope_scaling=values)
    close(rope_of(config), ROPE_INIT_FUNCTIONS[values["rope_type"]](their_config(config), "cpu"))


@given(theta=thetas, half=st.integers(1, 40), share=st.sampled_from([0.25, 0.5, 0.75, 1.0]), data=st.data())
def test_longrope_is_that_of_transformers(theta: float, half: int, share: float, data: st.DataObject) -> None:
    size = 2 * half
    dims = int(size * share)
    assume(dims >= 2 and dims % 2 == 0)
    numbers = st.lists(st.floats(1, 60), min_size=dims // 2, max_size=dims // 2)
    first = data.draw(contexts)
    config = of(
        "phi3",
        LLAMA,
        hidden_size=4 * size,
        rope_theta=theta,
        partial_rotary_factor=share,
        original_max_position_embeddings=first,
        max_position_embeddings=first * data.draw(st.sampled_from([1, 8, 32])),
        rope_scaling={"type": "longrope", "short_factor": data.draw(numbers), "long_factor": data.draw(numbers)},
    )
    close(rope_of(config), ROPE_INIT_FUNCTIONS["longrope"](their_config(config), "cpu", seq_len=first))


@given(theta=thetas, half=st.integers(1, 70))
def test_plain_frequencies_fall_by_the_same_ratio(theta: float, half: int) -> None:
    found = Rope(theta, 2 * half).frequencies()
    assert found == pytest.approx([theta ** (-index / half) for index in range(half)])
    assert Rope(theta, 2 * half).scale == 1
