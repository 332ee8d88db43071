"""A model whose vocabulary was extended, as a GGUF file: the ids of ours and of llama.cpp, new tokens among them."""

from pathlib import Path

import pytest
from tests.export.conftest import FAMILIES, export, make_model
from tests.export.sentencepieces import RUNS, write_tokenizer

from rhapsode.conformance.readers.llamacpp import LlamaCpp, is_installed
from rhapsode.conformance.snippets import CODE, PROSE
from rhapsode.conformance.torture import torture_strings
from rhapsode.core.events import Events
from rhapsode.corpus.new_tokens import extend_tokenizer, find_new_tokens
from rhapsode.corpus.tokens_config import TokensConfig
from rhapsode.export.gguf.export import export_gguf
from rhapsode.text.tokenizer import Tokenizer
from rhapsode.weights.extend import extend_model
from rhapsode.weights.gguf.convert import convert_gguf

needs_llama_cpp = pytest.mark.skipif(not is_installed(), reason="llama-cpp-python is not installed")
KINDS = {"llama 2": (True, []), "gemma": (False, ["\n", "\n\n", *RUNS, "<table>"])}
TEXTS = ["The rhapsode recites the rhapsody of rhapsodes, and rhapsodises.", "self.assertRhapsody(rhapsode)\n"] * 20
ASKED = TokensConfig(new_pieces=60, new_special=["<|note|>"])


@pytest.fixture(scope="module", params=["llama 2", "gemma", "byte-level"])
def extended(request: pytest.FixtureRequest, words_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete directory."""
    path = tmp_path_factory.mktemp("extended")
    if request.param == "byte-level":
        base = make_model(path / "base", FAMILIES["qwen2"], words_dir)
    else:
        has_space_before, own = KINDS[request.param]
        write_tokenizer(path / "base-words", has_space_before=has_space_before, own=own)
        base = make_model(path / "base", FAMILIES["llama"], path / "base-words", rows=704)
    before = Tokenizer.load(base)
    new = find_new_tokens(before, ASKED, TEXTS)
    after = extend_tokenizer(before, new, ASKED)
    after.save(path / "words")
    facts = {"licence": "apache-2.0", "source": "a test"}
    out = path / "model"
    extend_model(base, out, tokenizer_dir=path / "words", first=new.first, replaced=new.replaced, facts=facts)
    return out


def texts_of(tokenizer: Tokenizer) -> list[str]:
    """Text with new pieces whole, cut and beside others."""
    pieces = [tokenizer.decode([token]) for token in range(tokenizer.vocab_size - 60, tokenizer.vocab_size - 1)]
    mixed = [f"{left}{right} {left}.{right[:-1]}" for left, right in zip(pieces, reversed(pieces), strict=True)]
    return [*TEXTS[:2], *pieces, *mixed, *PROSE, *CODE, *torture_strings(tokenizer)[::5]]


def test_the_tokenizer_comes_back(extended: Path, tmp_path: Path) -> None:
    convert_gguf(export(extended, tmp_path).path, tmp_path / "back", events=Events())
    ours, found = Tokenizer.load(extended), Tokenizer.load(tmp_path / "back")
    for text in texts_of(ours):
        assert found.ids(text) == ours.ids(text), repr(text)


@needs_llama_cpp
@pytest.mark.peers
def test_llama_cpp_reads_the_same_ids_and_computes_the_same(extended: Path, tmp_path: Path) -> None:
    found = export_gguf(extended, tmp_path, name="m", encoding="f32", events=Events())
    assert found.proof is not None
    assert found.proof.strings > 1980
    ours = Tokenizer.load(extended)
    with LlamaCpp(found.path) as reader:
        for text in texts_of(ours):
            if "▁" not in text and "<|note|>" not in text:
                assert reader.encode(text) == ours.ids(text), repr(text)
