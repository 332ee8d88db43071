"""SentencePiece's vocabularies in a GGUF file: the ids of its own library, of ours, and of llama.cpp."""

from pathlib import Path
from typing import NamedTuple

import pytest
import sentencepiece
from tests.export.conftest import FAMILIES, export, make_model
from tests.export.sentencepieces import MARK, RUNS, write_tokenizer

from rhapsode.conformance.readers.llamacpp import is_installed
from rhapsode.conformance.torture import torture_strings
from rhapsode.core.events import Event, Events
from rhapsode.export.gguf.export import export_gguf
from rhapsode.text.tokenizer import Tokenizer
from rhapsode.weights.gguf.convert import convert_gguf

needs_llama_cpp = pytest.mark.skipif(not is_installed(), reason="llama-cpp-python is not installed")
KINDS = {"llama 2": (True, []), "gemma": (False, ["\n", "\n\n", *RUNS, "<table>"])}


class Made(NamedTuple):
    """A model with such a vocabulary, and the library that made it."""

    directory: Path
    processor: sentencepiece.SentencePieceProcessor


@pytest.fixture(scope="module", params=KINDS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    path = tmp_path_factory.mktemp("sentencepiece")
    has_space_before, own = KINDS[request.param]
    processor = write_tokenizer(path / "tokenizer", has_space_before=has_space_before, own=own)
    model = make_model(path / "model", FAMILIES["llama"], path / "tokenizer", rows=704)
    return Made(model, processor)


def test_ours_has_the_ids_of_the_library(made: Made) -> None:
    tokenizer = Tokenizer.load(made.directory)
    for text in torture_strings(tokenizer):
        if any(name in text for name in ("<s>", "</s>", "<unk>", "<0x")) or "\0" in text:
            continue  # the library has its own opinion of these
        assert tokenizer.encode(text) == made.processor.encode(text), repr(text)


def test_the_tokenizer_comes_back(made: Made, tmp_path: Path) -> None:
    convert_gguf(export(made.directory, tmp_path).path, tmp_path / "back", events=Events())
    ours, found = Tokenizer.load(made.directory), Tokenizer.load(tmp_path / "back")
    for text in torture_strings(ours):
        assert found.ids(text) == ours.ids(text), repr(text)


@needs_llama_cpp
@pytest.mark.peers
def test_llama_cpp_has_the_same_ids(made: Made, tmp_path: Path) -> None:
    heard: list[Event] = []
    found = export_gguf(made.directory, tmp_path, name="m", encoding="f32", events=Events(heard.append))
    warnings = [event.fields["message"] for event in heard if event.kind == "warning"]
    assert found.proof is not None
    assert found.proof.strings + sum(int(warning.split()[0]) for warning in warnings) == 2000
    assert found.proof.strings > 1980
    assert all(repr(MARK) in warning for warning in warnings)
