"""A model that somebody published as a GGUF file says the same here and in transformers, on the same weights.

RHAPSODE_TEST_GGUF names the file. The text is the standard library's own documentation.
"""

import ast
import os
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from rhapsode.core.events import Events
from rhapsode.engine.engine import Engine
from rhapsode.engine.sampling import Sampling
from rhapsode.kernels.attention import DenseAttend
from rhapsode.model.decoder import Decoder
from rhapsode.text.tokenizer import Tokenizer
from rhapsode.weights.directory import read_model
from rhapsode.weights.gguf.convert import convert_gguf

FILE = os.environ.get("RHAPSODE_TEST_GGUF", "")
PROMPTS, LENGTH, NEW = 50, 200, 24

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not FILE, reason="RHAPSODE_TEST_GGUF names no file")]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("published") / "model"
    convert_gguf(Path(FILE), path, events=Events())
    return path


@pytest.fixture(scope="module")
def ours(directory: Path) -> Decoder:
    return read_model(directory)


@pytest.fixture(scope="module")
def theirs(directory: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def prompts(directory: Path) -> Tensor:
    """[50,200] ids."""
    tokenizer = Tokenizer.load(directory)
    ids = (tokenizer.ids(text)[:LENGTH] for text in documentation())
    found = [prompt for prompt in ids if len(prompt) == LENGTH][:PROMPTS]
    assert len(found) == PROMPTS
    return torch.tensor(found)


def documentation() -> Iterator[str]:
    """What modules of the standard library say of themselves, in the order of their names."""
    for file in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        if text := ast.get_docstring(ast.parse(file.read_bytes())):
            yield text


@torch.no_grad()
def test_every_score_of_fifty_prompts_is_the_same(ours: Decoder, theirs: PreTrainedModel, prompts: Tensor) -> None:
    for ids in prompts.split(1):
        hidden = ours(ids, torch.arange(LENGTH)[None], attend=DenseAttend(torch.ones_like(ids), dtype=torch.float32))
        torch.testing.assert_close(ours.logits(hidden), theirs(ids).logits, rtol=0, atol=1e-3)


@torch.no_grad()
def test_what_follows_fifty_prompts_is_the_same(ours: Decoder, theirs: PreTrainedModel, prompts: Tensor) -> None:
    """Greedy, by the engine over its pages, all requests at once; end tokens do not end a text here."""
    engine = Engine(ours, stop_ids=frozenset())
    said: list[list[int]] = [[] for _ in prompts]
    for index, output in engine.generate(prompts.tolist(), Sampling(max_tokens=NEW, temperature=0.0)):
        assert output.scored is not None
        said[index].append(output.scored.token)
    theirs.generation_config.eos_token_id = None
    expected = theirs.generate(prompts, max_new_tokens=NEW, do_sample=False, attention_mask=torch.ones_like(prompts))
    assert said == expected[:, LENGTH:].tolist()
