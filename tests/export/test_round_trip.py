"""Directory -> GGUF -> directory, without llama.cpp."""

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from tests.export.conftest import FAMILIES, export, make_model
from tests.model.conftest import dense_logits

from rhapsode.conformance.torture import torture_strings
from rhapsode.core.events import Events
from rhapsode.export.gguf.encodings import encodings
from rhapsode.text.tokenizer import Tokenizer
from rhapsode.weights.directory import read_model, stop_tokens
from rhapsode.weights.gguf.architectures import links
from rhapsode.weights.gguf.convert import convert_gguf
from rhapsode.weights.shards import Weights

IDS = torch.arange(3, 43)[None]


def back(file: Path, into: Path) -> Path:
    convert_gguf(file, into, dtype="float32", events=Events())
    return into


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_comes_back_with_the_same_logits(family: str, words_dir: Path, tmp_path: Path) -> None:
    model = make_model(tmp_path / "model", FAMILIES[family], words_dir)
    expected = dense_logits(read_model(model), IDS)
    found = dense_logits(read_model(back(export(model, tmp_path).path, tmp_path / "back")), IDS)
    assert expected.std() > 0.5
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize(("encoding", "dtype"), [("f16", torch.float16), ("bf16", torch.bfloat16)])
def test_a_directory_comes_back_bit_for_bit_in_its_own_type(
    encoding: str, dtype: torch.dtype, words_dir: Path, tmp_path: Path
) -> None:
    model = make_model(tmp_path / "model", FAMILIES["qwen3_moe"], words_dir, dtype=dtype)
    file = export(model, tmp_path, encoding=encoding).path
    convert_gguf(file, tmp_path / "back", dtype=str(dtype).removeprefix("torch."), events=Events())
    with Weights(model) as expected, Weights(tmp_path / "back") as found:
        assert expected.tensors.keys() == found.tensors.keys()
        for name in expected.tensors:
            assert found.tensor(name).dtype == dtype
            assert torch.equal(found.tensor(name), expected.tensor(name))


@pytest.mark.parametrize("encoding", [name for name, kind in encodings().items() if kind.block > 1])
def test_what_is_quantised_comes_back_as_the_package_dequantises_it(
    encoding: str, words_dir: Path, tmp_path: Path
) -> None:
    wide = FAMILIES["gpt2"] | {"n_embd": 256, "n_inner": 256, "n_layer": 1}
    model = make_model(tmp_path / "model", wide, words_dir)
    found = export(model, tmp_path, encoding=encoding)
    kind = encodings()[encoding]
    assert not found.fallbacks
    written = {tensor.name: tensor for tensor in gguf.GGUFReader(found.path).tensors}
    with Weights(model) as weights, Weights(back(found.path, tmp_path / "back")) as again:
        for link in links(read_model(model).spec):
            tensor = written[link.gguf]
            [name] = link.disk
            values = link.change.to_gguf(weights.tensor(name).numpy(), 64)
            data = gguf.quants.quantize(np.ascontiguousarray(values), tensor.tensor_type)
            np.testing.assert_array_equal(tensor.data.view(np.uint8).reshape(-1), data.view(np.uint8).reshape(-1))
            expected = gguf.quants.dequantize(data, tensor.tensor_type).reshape(values.shape)
            np.testing.assert_array_equal(link.change.to_gguf(again.tensor(name).numpy(), 64), expected)
    assert written["blk.0.attn_qkv.weight"].tensor_type == kind.type


def test_the_tokenizer_comes_back_with_its_ids_template_and_ends(llama_dir: Path, tmp_path: Path) -> None:
    again = back(export(llama_dir, tmp_path).path, tmp_path / "back")
    ours, found = Tokenizer.load(llama_dir), Tokenizer.load(again)
    for text in torture_strings(ours):
        assert found.ids(text) == ours.ids(text)
    assert found.chat_template == ours.chat_template
    assert (found.bos, found.eos, found.pad, found.end_of_turn) == (ours.bos, ours.eos, ours.pad, ours.end_of_turn)
    assert set(stop_tokens(again)) == set(stop_tokens(llama_dir))
