import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rhapsode.core.errors import PlanRefused
from rhapsode.model.config import ModelConfig
from rhapsode.model.decoder import Decoder
from rhapsode.model.size import HEAD_DIM, ORDINARY_SIZE, ROUND, TOKENS, Ids, Shape, best_size, shape_of

SIZES = ("1m", "2m", "3m", "5m", "8m", "15m", "30m", "60m", "125m", "350m", "1b")


def shape(size: str, *, vocab_size: int = 4096, **changes: object) -> Shape:
    config = ModelConfig.model_validate({"size": size, **changes})
    assert config.size is not None
    return shape_of(config, size=config.size, ids=Ids(vocab_size=vocab_size, bos=0, eos=1, pad=2))


@pytest.mark.parametrize("family", ["qwen3", "llama"])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("size", SIZES)
def test_the_dial_gives_about_the_size_that_was_asked_for(size: str, tied: bool, family: str) -> None:
    made = shape(size, tied=tied, family=family).spec
    asked = ModelConfig.model_validate({"size": size}).size
    assert abs(made.parameters / asked - 1) < 0.25


@pytest.mark.parametrize(
    ("size", "vocab_size"), [("5m", 2048), ("5m", 16384), ("15m", 8192), ("60m", 32768), ("1b", 131072)]
)
def test_the_vocabulary_counts_as_part_of_the_size(size: str, vocab_size: int) -> None:
    asked = ModelConfig.model_validate({"size": size}).size
    assert abs(shape(size, vocab_size=vocab_size).spec.parameters / asked - 1) < 0.25


@pytest.mark.parametrize("size", SIZES)
def test_a_larger_size_is_never_a_smaller_model(size: str) -> None:
    made = shape(size).spec
    assert made.heads % made.kv_heads == 0
    assert made.head_dim == HEAD_DIM
    for larger in SIZES[SIZES.index(size) + 1 :]:
        other = shape(larger).spec
        assert other.parameters > made.parameters
        assert len(other.layers) >= len(made.layers)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("size", ["1m", "5m", "60m", "1b"])
def test_the_derivation_tells_the_truth(size: str, tied: bool) -> None:
    made = shape(size, tied=tied)
    spec, said = made.spec, {name: value for name, value, _ in made.derivation}
    with torch.device("meta"):
        model = Decoder(spec)
    assert sum(p.numel() for p in model.parameters()) == spec.parameters == number(said["parameters"])
    assert number(said["depth L"]) == len(model.layers)
    assert number(said["width D"]) == model.embedding.weight.shape[1]
    assert said["heads H x C"] == f"{spec.heads} x {spec.head_dim}"
    assert number(said["feed-forward F"]) == model.layers[0].ffn.down.weight.shape[1]


@pytest.mark.parametrize("tied", [True, False])
def test_the_formula_of_the_parameters_adds_up(tied: bool) -> None:
    made = shape("8m", tied=tied)
    spec, formula = made.spec, made.derivation[-1][2]
    D, H, K, C, F, L, V = (
        spec.width, spec.heads, spec.kv_heads, spec.head_dim, spec.layers[0].ffn, len(spec.layers), spec.vocab_size
    )  # fmt: skip
    norms = sum(p.numel() for name, p in Decoder(spec).named_parameters() if "norm" in name)
    assert formula.startswith("2 V D" if not tied else "V D")
    assert (1 if tied else 2) * V * D + L * (2 * D * C * (H + K) + 3 * D * F) + norms == spec.parameters


def test_depth_and_width_override_the_dial() -> None:
    spec = shape("5m", depth=3, width=96).spec
    assert (len(spec.layers), spec.width) == (3, 96)
    by_name = {name: why for name, _, why in shape("5m", depth=3, width=96).derivation}
    assert (by_name["depth L"], by_name["width D"]) == ("model.depth", "model.width")


@pytest.mark.parametrize("width", range(32, 2049, 32))
def test_the_heads_of_a_llama_divide_its_width_as_other_readers_demand(width: int) -> None:
    spec = shape("5m", family="llama", depth=1, width=width).spec
    assert spec.width % spec.heads == 0
    assert spec.heads % spec.kv_heads == 0


def test_a_vocabulary_that_is_too_large_for_the_size_is_refused() -> None:
    with pytest.raises(PlanRefused, match="vocabulary of 100,000 tokens") as caught:
        shape("1m", vocab_size=100_000)
    assert "vocab_size" in caught.value.hint


def test_the_shape_follows_the_recipe() -> None:
    spec = shape("5m", family="llama", context=128, tied=False).spec
    assert (spec.family, spec.qk_norm, spec.context, spec.tied) == ("llama", None, 128, False)
    assert spec.eos == (1,)
    assert {key: spec.config[f"{key}_token_id"] for key in ("bos", "eos", "pad")} == {"bos": 0, "eos": 1, "pad": 2}


@pytest.mark.parametrize("changes", [{"size": "5 apples"}, {"width": 100}, {"family": "gpt9"}, {"heads": 4}])
def test_what_the_section_does_not_know_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ModelConfig.model_validate(changes)


def test_training_flops_of_a_token_are_six_times_the_products_and_the_attention() -> None:
    spec = shape("8m").spec
    matrices = sum(p.numel() for name, p in Decoder(spec).named_parameters() if p.ndim == 2)
    attention = 6 * len(spec.layers) * spec.heads * spec.head_dim * 512
    assert spec.flops_per_token(512) == 6 * matrices + attention


def number(text: str) -> int:
    assert re.fullmatch(r"[0-9,]+", text)
    return int(text.replace(",", ""))


MANY = 10**12


def size_for(
    *, tokens: float | None = None, operations: float | None = None, data: int = MANY, vocab: int = 4096
) -> int:
    return best_size(tokens=tokens, operations=operations, num_tokens=data, vocab_size=vocab)[0]


def test_a_budget_in_tokens_gives_so_many_parameters_that_each_has_its_share() -> None:
    assert size_for(tokens=30_000_000 * TOKENS) == 30_000_000
    assert size_for() == ORDINARY_SIZE


@given(st.floats(1e13, 1e22), st.floats(1, 1000))
def test_more_time_is_never_a_smaller_model_and_its_size_is_a_round_one(operations: float, more: float) -> None:
    size = size_for(operations=operations)
    assert size <= size_for(operations=operations * more)
    digits = size / 10 ** (len(str(size)) - 1)
    assert digits in ROUND


def test_a_hundred_times_the_time_is_ten_times_the_size() -> None:
    assert size_for(operations=1e19) == 10 * size_for(operations=1e17)


def test_where_the_data_would_be_read_too_often_a_larger_model_reads_it_less_often() -> None:
    assert size_for(operations=1e16, data=100_000_000) < size_for(operations=1e16, data=15_000_000)
    _, why = best_size(tokens=None, operations=1e16, num_tokens=15_000_000, vocab_size=4096)
    assert "4 passes over 15,000,000 tokens" in why


def test_little_data_is_not_learned_by_heart_however_long_it_takes() -> None:
    assert size_for(operations=1e22, data=10_000_000) == size_for(tokens=1e12, data=10_000_000) == 20_000_000


def test_half_of_the_smallest_model_is_its_vocabulary() -> None:
    assert size_for(tokens=1000, vocab=262_144) == 30_000_000
    _, why = best_size(tokens=1000, operations=None, num_tokens=MANY, vocab_size=262_144)
    assert "smallest for this vocabulary" in why
