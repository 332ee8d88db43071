"""A model that somebody published as a GGUF file, here and back again.

RHAPSODE_TEST_GGUF names the file. The text is the standard library's own documentation.
"""

import ast
import os
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from rhapsode.conformance.readers.llamacpp import LlamaCpp, is_installed
from rhapsode.core.events import Events
from rhapsode.core.manifest import writing
from rhapsode.export.gguf.distributions import decoder_scores, divergence
from rhapsode.export.gguf.export import export_gguf
from rhapsode.text.tokenizer import Tokenizer
from rhapsode.weights.directory import read_model
from rhapsode.weights.gguf.convert import convert_gguf
from rhapsode.weights.shards import Weights

FILE = os.environ.get("RHAPSODE_TEST_GGUF", "")
PROMPTS, LENGTH, LAST = 50, 200, 40

pytestmark = [
    pytest.mark.slow,
    pytest.mark.peers,
    pytest.mark.skipif(not is_installed(), reason="llama-cpp-python is not installed"),
    pytest.mark.skipif(not FILE, reason="RHAPSODE_TEST_GGUF names no file"),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("published") / "model"
    with writing(path, kind="model", facts={"source": "RHAPSODE_TEST_GGUF", "licence": "unknown"}) as work:
        convert_gguf(Path(FILE), work.path, events=Events())
    return path


def documentation() -> Iterator[str]:
    """What modules of the standard library say of themselves, in the order of their names."""
    for file in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        if text := ast.get_docstring(ast.parse(file.read_bytes())):
            yield text


def prompts(tokenizer: Tokenizer) -> list[list[int]]:
    ids = (tokenizer.ids(text)[:LENGTH] for text in documentation())
    return [prompt for prompt in ids if len(prompt) == LENGTH][:PROMPTS]


def test_half_precision_is_proven_and_comes_back_with_the_same_weights(model: Path, tmp_path: Path) -> None:
    found = export_gguf(model, tmp_path, name="published", encoding="f16", events=Events())
    assert found.proof is not None
    assert found.error < 1e-3
    assert found.proof.strings > 1980
    assert found.proof.distance.median < 1e-5
    convert_gguf(found.path, tmp_path / "back", dtype="bfloat16", events=Events())
    with Weights(model) as expected, Weights(tmp_path / "back") as again:
        assert expected.tensors.keys() == again.tensors.keys()
        assert all(torch.equal(again.tensor(name), expected.tensor(name)) for name in expected.tensors)


def test_our_decoder_is_close_to_llama_cpp_on_the_published_file(model: Path) -> None:
    decoder, apart = read_model(model), []
    asked = prompts(Tokenizer.load(model))
    assert len(asked) == PROMPTS
    with LlamaCpp(Path(FILE)) as reader:
        for ids in asked:
            ours = decoder_scores(decoder, ids, last=LAST)
            theirs = reader.all_scores(ids, first=LENGTH - LAST)
            apart.append(divergence(ours, theirs))
    assert np.median(np.concatenate(apart)) < 0.01
    assert np.median([one[-1] for one in apart]) < 0.01
