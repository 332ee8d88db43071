"""Tiny models of every family that a GGUF file can hold, complete directories of them, and exports."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.conftest import SENTENCES, make_decoder
from tests.model.cases import GEMMA, GPT2, LLAMA, STABLELM, STARCODER2, of
from tests.weights import conftest as weights

from rhapsode.conformance.snippets import CODE, CONTRACTIONS, NUMBERS, PROSE
from rhapsode.core.events import Events
from rhapsode.core.manifest import writing
from rhapsode.export.gguf.export import Exported, export_gguf
from rhapsode.model.families.registry import spec_from_config
from rhapsode.text.tokenizer import train_tokenizer
from rhapsode.weights.directory import write_model

small_disk = weights.small_disk

VOCABULARY, ROWS, MANY = 288, 290, 600
"""Tokens, and rows of the embedding: a little more, as publishers pad it."""

WIDE = {"hidden_size": 64, "intermediate_size": 96, "vocab_size": ROWS, "bos_token_id": 0, "eos_token_id": 1}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
GEMMA_WINDOWS = {"sliding_window": 9, "query_pre_attn_scalar": 16, "num_hidden_layers": 6, "tie_word_embeddings": True}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2}

FAMILIES: dict[str, dict[str, Any]] = {
    "llama": of("llama", LLAMA),
    "llama, biased, tied": of("llama", LLAMA, attention_bias=True, mlp_bias=True, tie_word_embeddings=True),
    "llama, linear": of("llama", LLAMA, rope_scaling={"type": "linear", "factor": 2.5}),
    "llama, llama3": of("llama", LLAMA, rope_scaling=LLAMA3 | {"original_max_position_embeddings": 32}),
    "mistral": of("mistral", LLAMA, head_dim=32),
    "mixtral": of("mixtral", LLAMA, num_local_experts=4, num_experts_per_tok=2),
    "smollm3": of("smollm3", LLAMA, num_hidden_layers=4),
    "qwen2": of("qwen2", LLAMA),
    "qwen3": of("qwen3", LLAMA, head_dim=32),
    "qwen3_moe": of("qwen3_moe", LLAMA, **EXPERTS, moe_intermediate_size=32, norm_topk_prob=True),
    "olmoe": of("olmoe", LLAMA, **EXPERTS, num_key_value_heads=4),
    "olmo2": of("olmo2", LLAMA),
    "gemma": of("gemma", GEMMA, tie_word_embeddings=None),
    "gemma2": of("gemma2", GEMMA, **GEMMA_WINDOWS, attn_logit_softcapping=5.0, final_logit_softcapping=9.0),
    "gemma3": of("gemma3_text", GEMMA, **GEMMA_WINDOWS, rope_theta=1e6, rope_local_base_freq=1e4),
    "phi3": of("phi3", LLAMA),
    "gpt2": of("gpt2", GPT2, n_embd=64, vocab_size=ROWS, bos_token_id=0, eos_token_id=1),
    "granite": of("granite", LLAMA, embedding_multiplier=3.0, residual_multiplier=0.4, attention_multiplier=0.15),
    "stablelm": of("stablelm", STABLELM, use_qkv_bias=True),
    "starcoder2": of("starcoder2", STARCODER2),
}


def make_model(
    path: Path,
    config: dict[str, Any],
    tokenizer_dir: Path,
    *,
    dtype: torch.dtype = torch.float32,
    rows: int = ROWS,
) -> Path:
    """A complete directory of a model with random weights."""
    wide = {} if config["model_type"] == "gpt2" else WIDE
    spec = spec_from_config(config | wide | {"vocab_size": rows})
    with writing(path, kind="model", facts={"licence": "apache-2.0", "source": "a test"}) as work:
        weights = [(name, value.detach().to(dtype)) for name, value in make_decoder(spec).named_parameters()]
        write_model(work.path, spec=spec, weights=weights, tokenizer_dir=tokenizer_dir, stops=(4,))
        (work.path / "README.md").write_text("---\nlicense: apache-2.0\nlanguage:\n- en\n- el\n---\n\n# A model\n")
        (work.path / "LICENSE").write_text("Do what you like.\n")
    return path


def grow(path: Path) -> None:
    """Make one matrix of a directory too large for half precision."""
    tensors = load_file(path / "model.safetensors")
    tensors["model.layers.2.mlp.down_proj.weight"] *= 1e6
    save_file(tensors, path / "model.safetensors")


def export(
    directory: Path, out: Path, *, encoding: str = "f32", verified: bool = False, name: str = "tiny"
) -> Exported:
    return export_gguf(directory, out, name=name, encoding=encoding, verified=verified, events=Events())


@pytest.fixture(scope="session")
def words_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level tokenizer with a chat template."""
    path = tmp_path_factory.mktemp("words")
    train_tokenizer(SENTENCES, vocab_size=VOCABULARY).save(path)
    return path


@pytest.fixture(scope="session")
def many_words_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough merges that it matters how text is split before."""
    path = tmp_path_factory.mktemp("many_words")
    train_tokenizer([*(CODE + PROSE) * 2, *(NUMBERS + CONTRACTIONS) * 4], vocab_size=MANY).save(path)
    return path


@pytest.fixture(scope="session")
def llama_dir(words_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("models") / "llama", FAMILIES["llama"], words_dir)
