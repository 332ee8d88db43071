"""llama.cpp, reading the same file, gives the same ids."""

from collections.abc import Callable, Iterator
from pathlib import Path

import gguf
import pytest
from tests.weights.gguf.texts import texts
from tests.weights.gguf.vocabularies import finish, say_bytes, say_pieces, trained

from rhapsode.text.tokenizer import Tokenizer
from rhapsode.weights.gguf.container import read_gguf
from rhapsode.weights.gguf.pre_tokenizers import PRE_TOKENIZERS
from rhapsode.weights.gguf.tokenizer import read_tokenizer

llama_cpp = pytest.importorskip("llama_cpp")
pytestmark = pytest.mark.peers

TEXTS = texts(2000)
# llama.cpp composes no letters; every other way of splitting is the published one
APPROXIMATE = ("tekken", "gpt-4o")  # their classes of letters, which llama.cpp has for ASCII alone
SAME = [name for name, known in PRE_TOKENIZERS.items() if known.normalizer is None]


def vocabulary(path: Path, say: Callable[[gguf.GGUFWriter], None]) -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(8)
    writer.add_embedding_length(8)
    writer.add_feed_forward_length(8)
    writer.add_head_count(1)
    writer.add_layer_norm_rms_eps(1e-5)
    say(writer)
    return finish(writer)


def both(path: Path) -> Iterator[tuple[str, list[int], list[int]]]:
    """Every text with our ids and llama.cpp's."""
    source, names, template = read_tokenizer(read_gguf(path)).files
    ours = Tokenizer(source, names=names, chat_template=template)
    theirs = llama_cpp.Llama(str(path), vocab_only=True, verbose=False)
    for text in TEXTS:
        yield text, ours.ids(text), theirs.tokenize(text.encode(), add_bos=True, special=False)
    theirs.close()


@pytest.mark.parametrize("name", SAME)
def test_ids_of_a_byte_level_vocabulary(name: str, tmp_path: Path) -> None:
    for text, ours, theirs in both(vocabulary(tmp_path / "a.gguf", lambda w: say_bytes(w, name))):
        assert ours == theirs or (name in APPROXIMATE and not text.isascii()), repr(text)


@pytest.mark.parametrize("before", [False, True])
def test_ids_of_a_sentencepiece_vocabulary(before: bool, tmp_path: Path) -> None:
    model = trained(has_space_before=before)
    path = vocabulary(tmp_path / "a.gguf", lambda w: say_pieces(w, model, has_space_before=before))
    for text, ours, theirs in both(path):
        # SentencePiece takes its mark of a space, spelled in a text, for a space; llama.cpp only partly does
        assert ours == theirs or "▁" in text, repr(text)
