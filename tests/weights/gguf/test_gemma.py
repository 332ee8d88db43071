"""Gemma 3 270M as it is published: the file that RHAPSODE_TEST_GGUF names."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import sentencepiece
import torch
from sentencepiece import sentencepiece_model_pb2
from tests.model.conftest import dense_logits
from tests.weights.gguf.texts import LINES, texts

from rhapsode.conformance.torture import torture_strings
from rhapsode.core.events import Events
from rhapsode.model.spec import ModelSpec
from rhapsode.text.tokenizer import Tokenizer
from rhapsode.weights.directory import read_model, read_spec, stop_tokens
from rhapsode.weights.gguf.container import read_gguf
from rhapsode.weights.gguf.convert import convert_gguf

NAME = "RHAPSODE_TEST_GGUF"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(NAME not in os.environ, reason=f"{NAME} names no file"),
]
SPACE = "▁"
USER_DEFINED = 4


@pytest.fixture(scope="module")
def path() -> Path:
    return Path(os.environ[NAME])


@pytest.fixture(scope="module")
def directory(path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    into = tmp_path_factory.mktemp("gemma") / "model"
    convert_gguf(path, into, events=Events())
    yield into
    (into / "model.safetensors").unlink()


@pytest.fixture(scope="module")
def strings(directory: Path) -> list[str]:
    return [*torture_strings(Tokenizer.load(directory)), *texts(1000)]


def test_the_spec_is_the_published_one(directory: Path) -> None:
    spec: ModelSpec = read_spec(directory)
    assert spec.parameters == 268_098_176
    assert (spec.width, len(spec.layers), spec.heads, spec.kv_heads, spec.head_dim) == (640, 18, 4, 1, 256)
    assert [layer.window for layer in spec.layers] == ([512] * 5 + [None]) * 3
    assert [layer.rope.theta for layer in spec.layers if layer.rope] == ([1e4] * 5 + [1e6]) * 3
    assert spec.tied
    assert stop_tokens(directory) == (1, 106)


@torch.no_grad()
def test_logits_are_those_of_transformers_on_the_same_weights(directory: Path) -> None:
    from transformers import AutoModelForCausalLM

    ids = torch.tensor([Tokenizer.load(directory).ids("\n".join(LINES))[:800]])
    theirs = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager")
    assert ids.shape[1] == 800  # longer than a window
    torch.testing.assert_close(dense_logits(read_model(directory), ids), theirs(ids).logits, rtol=0, atol=1e-3)


def test_ids_are_those_of_sentencepiece(path: Path, directory: Path, strings: list[str]) -> None:
    metadata = read_gguf(path).metadata
    model = sentencepiece_model_pb2.ModelProto()
    columns = (metadata[f"tokenizer.ggml.{name}"] for name in ("tokens", "scores", "token_type"))
    for number, (token, score, kind) in enumerate(zip(*columns, strict=True)):
        text = token.replace(" ", SPACE) if kind == USER_DEFINED else token
        unknown = sentencepiece_model_pb2.ModelProto.SentencePiece.UNKNOWN
        model.pieces.add(piece=text, score=score, type=unknown if number == 3 else kind)
    spec = model.trainer_spec
    spec.model_type, spec.byte_fallback, spec.vocab_size = spec.BPE, True, len(model.pieces)
    spec.pad_id, spec.eos_id, spec.bos_id, spec.unk_id = range(4)
    model.normalizer_spec.name = "identity"
    model.normalizer_spec.add_dummy_prefix = model.normalizer_spec.remove_extra_whitespaces = False
    theirs = sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString())
    ours = Tokenizer.load(directory)
    for text in strings:
        assert ours.encode(text) == theirs.encode(text), repr(text)


@pytest.mark.peers
def test_ids_are_those_of_llama_cpp(path: Path, directory: Path, strings: list[str]) -> None:
    llama_cpp = pytest.importorskip("llama_cpp")
    theirs = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
    ours = Tokenizer.load(directory)
    for text in strings:
        # it takes "</s>", which here is a tag of HTML, for an end of text, and its own mark of a space for a letter
        if "</s>" not in text and SPACE not in text:
            assert ours.ids(text) == theirs.tokenize(text.encode(), add_bos=True, special=False), repr(text)
    theirs.close()
