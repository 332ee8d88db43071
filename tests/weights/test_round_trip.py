"""Ours, written, read by transformers, written by it, taken in again: every tensor on disk is equal, byte for byte."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.conftest import make_decoder
from tests.model.cases import CASES
from tests.weights.conftest import save_model
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from rhapsode.core.events import Events
from rhapsode.model.families.registry import spec_from_config
from rhapsode.text.tokenizer import Tokenizer
from rhapsode.weights.directory import import_directory, read_model, stop_tokens

logging.disable_progress_bar()


def tensors_of(directory: Path) -> dict[str, Tensor]:
    return {name: value for path in directory.glob("*.safetensors") for name, value in load_file(path).items()}


def there_and_back(ours: Path, theirs: Path, back: Path, *, dtype: torch.dtype, shard: str) -> None:
    AutoTokenizer.from_pretrained(ours).save_pretrained(theirs)
    model = AutoModelForCausalLM.from_pretrained(ours, dtype="auto")
    assert model.dtype == dtype
    model.save_pretrained(theirs, max_shard_size=shard)
    back.mkdir()
    import_directory(theirs, back, events=Events())


def check(case: str, dtype: torch.dtype, tokenizer_dir: Path, tmp_path: Path, *, shard_bytes: int) -> None:
    spec = spec_from_config({**CASES[case], "vocab_size": 320})
    model = make_decoder(spec, dtype=dtype)
    ours = save_model(tmp_path / "ours", model, tokenizer_dir, max_shard_bytes=shard_bytes)
    there_and_back(ours, tmp_path / "theirs", tmp_path / "back", dtype=dtype, shard=f"{shard_bytes // 1000}KB")
    assert len(list((tmp_path / "back").glob("*.safetensors"))) == len(
        list((tmp_path / "theirs").glob("*.safetensors"))
    )
    ours_on_disk, back_on_disk = tensors_of(ours), tensors_of(tmp_path / "back")
    assert ours_on_disk.keys() == back_on_disk.keys()
    for name, value in ours_on_disk.items():
        assert value.dtype == back_on_disk[name].dtype == dtype
        assert torch.equal(value, back_on_disk[name]), name
    again = read_model(tmp_path / "back", dtype=dtype)
    assert again.spec == spec
    for (name, value), (other, expected) in zip(again.named_parameters(), model.named_parameters(), strict=True):
        assert name == other
        assert torch.equal(value, expected), name
    assert stop_tokens(tmp_path / "back") == stop_tokens(ours)
    assert Tokenizer.load(tmp_path / "back").chat_template == Tokenizer.load(tokenizer_dir).chat_template


@pytest.mark.parametrize("case", CASES)
def test_every_family_comes_back_from_transformers_byte_for_byte(
    case: str, tokenizer_dir: Path, tmp_path: Path
) -> None:
    check(case, torch.bfloat16, tokenizer_dir, tmp_path, shard_bytes=10**9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("case", ["llama", "llama, biased, tied, one key head", "qwen3", "gpt2", "gemma3", "mixtral"])
def test_in_shards_too_and_in_every_type(case: str, dtype: torch.dtype, tokenizer_dir: Path, tmp_path: Path) -> None:
    check(case, dtype, tokenizer_dir, tmp_path, shard_bytes=40_000)
    assert (tmp_path / "ours" / "model.safetensors.index.json").exists()
    assert (tmp_path / "back" / "model.safetensors.index.json").exists()
