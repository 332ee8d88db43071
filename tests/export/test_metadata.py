"""What an exported file says about itself, read with the `gguf` package."""

import json
from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFReader, TokenType
from tests.export.conftest import FAMILIES, ROWS, VOCABULARY, WIDE, export, make_model

from rhapsode import __version__
from rhapsode.core.manifest import digest
from rhapsode.text.tokenizer import Tokenizer


def said(file: Path) -> dict[str, Any]:
    return {key: field.contents() for key, field in GGUFReader(file).fields.items() if not key.startswith("GGUF.")}


@pytest.fixture(scope="module")
def found(llama_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return said(export(llama_dir, tmp_path_factory.mktemp("out"), name="homer-5M-it").path)


def test_the_model_is_described_in_llama_cpps_words(found: dict[str, Any]) -> None:
    config = FAMILIES["llama"] | WIDE
    expected = {
        "context_length": config["max_position_embeddings"],
        "embedding_length": config["hidden_size"],
        "block_count": config["num_hidden_layers"],
        "feed_forward_length": config["intermediate_size"],
        "attention.head_count": config["num_attention_heads"],
        "attention.head_count_kv": config["num_key_value_heads"],
        "attention.layer_norm_rms_epsilon": pytest.approx(config["rms_norm_eps"]),
        "rope.dimension_count": 16,
        "rope.freq_base": config["rope_theta"],
        "vocab_size": ROWS,
    }
    assert found["general.architecture"] == "llama"
    assert {key: found[f"llama.{key}"] for key in expected} == expected


def test_name_licence_and_languages_are_there(found: dict[str, Any], llama_dir: Path) -> None:
    general = {key.removeprefix("general."): value for key, value in found.items() if key.startswith("general.")}
    assert general == {
        "architecture": "llama",
        "type": "model",
        "name": "homer-5M-it",
        "basename": "homer",
        "size_label": "5M",
        "finetune": "it",
        "license": "apache-2.0",
        "languages": ["en", "el"],
        "quantization_version": 2,
        "file_type": 0,
    }


def test_our_own_keys_lead_back_to_the_directory(found: dict[str, Any], llama_dir: Path) -> None:
    own = {key: value for key, value in found.items() if key.startswith("rhapsode.")}
    assert own == {
        "rhapsode.version": __version__,
        "rhapsode.source.origin": "a test",
        "rhapsode.source.manifest_sha256": digest(llama_dir),
        "rhapsode.licence.LICENSE": "Do what you like.\n",
    }


def test_the_tokenizer_is_complete(found: dict[str, Any], llama_dir: Path) -> None:
    tokenizer = Tokenizer.load(llama_dir)
    shape = json.loads((llama_dir / "tokenizer.json").read_text())
    ids = {key: value for key, value in found.items() if key.endswith("_token_id")}
    assert ids == {
        "tokenizer.ggml.bos_token_id": tokenizer.bos,
        "tokenizer.ggml.eos_token_id": tokenizer.eos,
        "tokenizer.ggml.eot_token_id": tokenizer.end_of_turn,
        "tokenizer.ggml.padding_token_id": tokenizer.pad,
    }
    assert found["tokenizer.ggml.model"] == "gpt2"
    assert found["tokenizer.ggml.add_bos_token"] is True
    assert found["tokenizer.ggml.add_eos_token"] is False
    assert found["tokenizer.ggml.add_space_prefix"] is False
    assert found["tokenizer.chat_template"] == tokenizer.chat_template
    assert found["tokenizer.ggml.merges"] == [" ".join(merge) for merge in shape["model"]["merges"]]
    tokens, types = found["tokenizer.ggml.tokens"], found["tokenizer.ggml.token_type"]
    assert {token: tokens.index(token) for token in shape["model"]["vocab"]} == shape["model"]["vocab"]
    assert tokens[VOCABULARY:] == [f"[PAD{token}]" for token in range(VOCABULARY, ROWS)]
    assert types[:5] == [TokenType.CONTROL] * 5
    assert types[5:VOCABULARY] == [TokenType.NORMAL] * (VOCABULARY - 5)
    assert types[VOCABULARY:] == [TokenType.UNUSED] * (ROWS - VOCABULARY)


@pytest.mark.parametrize(("encoding", "file_type"), [("f16", 1), ("q8_0", 7), ("q4_0", 2), ("bf16", 32)])
def test_the_file_type_is_that_of_most_tensors(encoding: str, file_type: int, llama_dir: Path, tmp_path: Path) -> None:
    file = export(llama_dir, tmp_path, encoding=encoding).path
    assert said(file)["general.file_type"] == file_type
    kinds = [tensor.tensor_type.name.lower() for tensor in GGUFReader(file).tensors]
    assert max(set(kinds) - {"f32"}, key=kinds.count) == encoding


@pytest.mark.parametrize("family", FAMILIES)
def test_llama_cpp_is_given_every_tensor_it_names(family: str, words_dir: Path, tmp_path: Path) -> None:
    from gguf import MODEL_ARCH_NAMES, MODEL_TENSORS, TENSOR_NAMES

    file = export(make_model(tmp_path / "model", FAMILIES[family], words_dir), tmp_path).path
    architecture = said(file)["general.architecture"]
    [number] = [key for key, name in MODEL_ARCH_NAMES.items() if name == architecture]
    known = {TENSOR_NAMES[kind] for kind in MODEL_TENSORS[number]}
    names = {tensor.name for tensor in GGUFReader(file).tensors}
    patterns = {".".join("{bid}" if part.isdigit() else part for part in name.split(".")[:-1]) for name in names}
    assert patterns <= known
    assert {"token_embd", "output_norm", "blk.{bid}.ffn_down" if "moe" not in family else "token_embd"} & patterns
