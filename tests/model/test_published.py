"""The `config.json` of models that people use, as published, is understood, and describes a model of the right size."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.model.conftest import as_transformers_reads

from rhapsode.model.families.registry import spec_from_config

PUBLISHED = Path(__file__).parent / "published"
PARAMETERS = {
    "gemma-2-2b": 2_614_341_888,
    "gemma-3-1b": 999_885_952,
    "gemma-3-270m": 268_098_176,
    "gpt2": 124_439_808,
    "granite-3.3-2b": 2_533_539_840,
    "llama-3.2-1b": 1_235_814_400,
    "mistral-7b-v0.3": 7_248_023_552,
    "mixtral-8x7b": 46_702_792_704,
    "olmo-2-1b": 1_484_916_736,
    "olmoe-1b-7b": 6_919_161_856,
    "phi-3-mini-4k": 3_821_079_552,
    "phi-4-mini": 3_836_021_760,
    "qwen2.5-0.5b": 494_032_768,
    "qwen3-0.6b": 596_049_920,
    "qwen3-30b-a3b": 30_532_122_624,
    "smollm2-135m": 134_515_008,
    "smollm3-3b": 3_075_098_624,
    "stablelm-2-1.6b": 1_644_515_328,
    "starcoder2-3b": 3_030_371_328,
}
"""As the model cards say, a tied projection counted once."""


def config_of(name: str) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((PUBLISHED / f"{name}.json").read_text())
    return config


def test_every_file_is_looked_at() -> None:
    assert {path.stem for path in PUBLISHED.iterdir()} == PARAMETERS.keys()


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_published_config_is_understood_and_has_the_published_size(name: str) -> None:
    assert spec_from_config(config_of(name)).parameters == PARAMETERS[name]


@pytest.mark.parametrize("name", PARAMETERS)
def test_transformers_reads_the_same_into_it(name: str) -> None:
    config = {key: value for key, value in config_of(name).items() if key != "auto_map"}
    assert spec_from_config(as_transformers_reads(config)) == spec_from_config(config)


def test_what_takes_part_in_the_product_of_a_token_is_less_than_all_experts() -> None:
    spec = spec_from_config(config_of("qwen3-30b-a3b"))
    assert 2.8e9 < spec.matrix_parameters + spec.vocab_size * spec.width < 3.4e9  # A3B


@pytest.mark.parametrize("name", ["phi-3-mini-4k", "phi-4-mini"])
def test_code_that_transformers_took_in_is_neither_run_nor_kept(name: str) -> None:
    config = config_of(name)
    assert "auto_map" not in spec_from_config(config).config
    prefixed = {key: f"microsoft/Phi-3.5--{code}" for key, code in config["auto_map"].items()}
    assert spec_from_config(config | {"auto_map": prefixed}) == spec_from_config(config)
