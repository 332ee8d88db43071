import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tests.weights.gguf.texts import texts
from tests.weights.gguf.vocabularies import OWN, Pieces, finish, own_shape, say_bytes, say_pieces, trained

from rhapsode.core.errors import RhapsodeError
from rhapsode.text.tokenizer import Tokenizer
from rhapsode.weights.gguf.container import read_gguf
from rhapsode.weights.gguf.pieces import merges_of
from rhapsode.weights.gguf.pre_tokenizers import PRE_TOKENIZERS, name_of
from rhapsode.weights.gguf.tokenizer import GgufTokenizer, read_tokenizer

Say = Callable[[gguf.GGUFWriter], None]
TEXTS = texts(600)
APART = ("<table>", "[multimodal]")


def read(path: Path, say: Say, **changes: Any) -> GgufTokenizer:
    """The tokenizer of a file that says `say`, but for keys that are said otherwise, or not where they are None."""
    writer = gguf.GGUFWriter(path, "llama")
    say(writer)
    for name, value in changes.items():
        key = f"tokenizer.{name}" if name == "chat_template" else f"tokenizer.ggml.{name}"
        stored = writer.kv_data[0].pop(key, None)
        if value is not None:
            kind = gguf.GGUFValueType.get_type(value) if stored is None else stored.type
            writer.add_key_value(
                key, value, kind if isinstance(value, (list, int)) else gguf.GGUFValueType.get_type(value)
            )
    return read_tokenizer(read_gguf(finish(writer)))


def tokenizer_of(found: GgufTokenizer) -> Tokenizer:
    return Tokenizer(found.files.source, names=found.files.names, chat_template=found.files.chat_template)


def pieces(*, before: bool, is_apart: bool = False) -> Pieces:
    """With spaces and line ends among the user's own tokens; if it `is_apart`, only where no space is put before."""
    return trained(has_space_before=before, own=APART if before and is_apart else OWN)


@pytest.mark.parametrize("before", [False, True])
def test_ids_are_those_of_sentencepiece(before: bool, tmp_path: Path) -> None:
    model = pieces(before=before, is_apart=True)
    tokenizer = tokenizer_of(read(tmp_path / "a.gguf", lambda w: say_pieces(w, model, has_space_before=before)))
    for text in TEXTS:
        if before and any(word in text for word in APART):
            continue  # llama.cpp puts a space after each of them too
        assert tokenizer.encode(text) == model.processor.encode(text), repr(text)
        assert tokenizer.ids(text) == [1, *model.processor.encode(text)]


@pytest.mark.parametrize("before", [False, True])
def test_the_user_s_own_tokens_are_found_before_any_joining(before: bool, tmp_path: Path) -> None:
    model = pieces(before=before)
    tokenizer = tokenizer_of(read(tmp_path / "a.gguf", lambda w: say_pieces(w, model, has_space_before=before)))
    ids = {token: model.tokens.index(token) for token in OWN}
    assert ids["<table>"] in tokenizer.encode("a<table>b")
    assert tokenizer.encode("<table><table>") == [ids["<table>"]] * 2
    assert ids["\n\n\n"] in tokenizer.encode("a\n\n\nb")
    assert tokenizer.decode(tokenizer.encode("a<table>  b")).replace(" ", "") == "a<table>b"


@pytest.mark.parametrize("before", [False, True])
def test_what_looks_like_a_control_token_is_text(before: bool, tmp_path: Path) -> None:
    model = pieces(before=before)
    tokenizer = tokenizer_of(read(tmp_path / "a.gguf", lambda w: say_pieces(w, model, has_space_before=before)))
    control = {i for i, kind in enumerate(model.types) if kind in (gguf.TokenType.CONTROL, gguf.TokenType.UNKNOWN)}
    assert len(control) == 5
    for token in control:
        assert not control & set(tokenizer.encode(f"a{model.tokens[token]}b"))


@pytest.mark.parametrize("before", [False, True])
def test_every_text_comes_back(before: bool, tmp_path: Path) -> None:
    model = pieces(before=before, is_apart=True)
    tokenizer = tokenizer_of(read(tmp_path / "a.gguf", lambda w: say_pieces(w, model, has_space_before=before)))
    for text in TEXTS:
        if "▁" in text or (before and any(word in text for word in APART)):
            continue
        assert tokenizer.decode(tokenizer.encode(text)) == (" " + text if before and text else text)


def test_a_byte_level_vocabulary_comes_back_as_it_was(tmp_path: Path) -> None:
    found = read(tmp_path / "a.gguf", lambda w: say_bytes(w, "dbrx"), add_bos_token=True)
    shape, own = json.loads(found.files.source), own_shape()
    assert shape["model"]["vocab"] == own["model"]["vocab"]
    assert shape["model"]["merges"] == own["model"]["merges"]
    assert name_of(shape) == name_of(own) == "dbrx"
    ours = tokenizers.Tokenizer.from_str(json.dumps(own))
    theirs = tokenizers.Tokenizer.from_str(found.files.source)
    assert [theirs.encode(text).ids for text in TEXTS] == [ours.encode(text).ids for text in TEXTS]
    assert found.files.names == {
        "bos_token": "<|begin_of_text|>",
        "eos_token": "<|end_of_text|>",
        "pad_token": "<|pad|>",
    }
    assert found.ids == {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}


@pytest.mark.parametrize("name", PRE_TOKENIZERS)
def test_every_pre_tokenizer_gives_a_tokenizer_that_loses_nothing(name: str, tmp_path: Path) -> None:
    found = read(tmp_path / "a.gguf", lambda w: say_bytes(w, name))
    tokenizer = tokenizer_of(found)
    composes = json.loads(found.files.source)["normalizer"] is not None
    for text in TEXTS[:200]:
        assert composes or tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize(
    ("name", "begins"), [("llama-bpe", True), ("tekken", True), ("qwen2", False), ("gpt-2", False)]
)
def test_a_text_begins_with_bos_where_llama_cpp_says_so(name: str, begins: bool, tmp_path: Path) -> None:
    say = lambda w: say_bytes(w, name)  # noqa: E731
    assert tokenizer_of(read(tmp_path / "a.gguf", say)).prefix == ([0] if begins else [])
    assert tokenizer_of(read(tmp_path / "b.gguf", say, add_bos_token=not begins)).prefix == ([] if begins else [0])


def test_a_text_ends_with_eos_where_the_file_says_so(tmp_path: Path) -> None:
    found = read(tmp_path / "a.gguf", lambda w: say_bytes(w, "qwen2"), add_bos_token=True, add_eos_token=True)
    backend = tokenizers.Tokenizer.from_str(found.files.source)
    ids = backend.encode("sing").ids
    assert (ids[0], ids[-1]) == (0, 1)
    assert backend.encode("sing", "goddess").ids == ids + backend.encode("goddess").ids


def test_what_the_file_leaves_out_of_a_sentencepiece_vocabulary_is_what_llama_cpp_takes(tmp_path: Path) -> None:
    model = pieces(before=True)
    left_out = (
        "bos_token_id",
        "eos_token_id",
        "unknown_token_id",
        "add_bos_token",
        "add_eos_token",
        "add_space_prefix",
    )
    said = read(tmp_path / "a.gguf", lambda w: say_pieces(w, model, has_space_before=True))
    assert said == read(
        tmp_path / "b.gguf", lambda w: say_pieces(w, model, has_space_before=True), **dict.fromkeys(left_out)
    )


def test_every_token_that_ends_a_generation_is_found(tmp_path: Path) -> None:
    model = pieces(before=False)
    end = model.tokens.index("<end_of_turn>")
    found = read(tmp_path / "a.gguf", lambda w: say_pieces(w, model, has_space_before=False))
    assert found.stops == (2, end)
    start = model.tokens.index("<start_of_turn>")
    found = read(tmp_path / "b.gguf", lambda w: say_pieces(w, model, has_space_before=False), eot_token_id=start)
    assert found.stops == (2, start, end)


def test_the_chat_template_is_taken_as_text(tmp_path: Path) -> None:
    template = "{{ self.__init__.__globals__ }}{% for x in range(10**9) %}{% endfor %}"
    found = read(tmp_path / "a.gguf", lambda w: say_bytes(w, "qwen2"), chat_template=template)
    assert found.files.chat_template == template
    with pytest.raises(RhapsodeError, match=r"tokenizer\.chat_template is not a text of at most"):
        read(tmp_path / "b.gguf", lambda w: say_bytes(w, "qwen2"), chat_template="x" * (2**20 + 1))


def test_ids_that_only_fill_the_embedding_have_no_token(tmp_path: Path) -> None:
    found = read(tmp_path / "a.gguf", lambda w: say_bytes(w, "qwen2", size=1000))
    tokenizer = tokenizer_of(found)
    assert tokenizer.vocab_size == len(own_shape()["model"]["vocab"])
    assert not any(token.startswith("[PAD") for token in json.loads(found.files.source)["model"]["vocab"])


PIECES = "pieces"
BYTES = "bytes"
WRONG = [
    (BYTES, {"model": "bert"}, "its tokenizer is of the kind 'bert'"),
    (BYTES, {"model": None}, "its tokenizer is of the kind 'None'"),
    (BYTES, {"pre": "default"}, "tokenizer.ggml.pre is 'default'"),
    (BYTES, {"pre": "a-way-to-come"}, "tokenizer.ggml.pre is 'a-way-to-come'"),
    (BYTES, {"pre": None}, "it lacks the key 'tokenizer.ggml.pre'"),
    (BYTES, {"tokens": None}, "it lacks the list tokenizer.ggml.tokens"),
    (BYTES, {"tokens": [1, 2]}, "tokenizer.ggml.tokens is a list of int"),
    (BYTES, {"merges": None}, "it lacks the list tokenizer.ggml.merges"),
    (BYTES, {"merges": ["nowhere"]}, "tokenizer.ggml.merges[0] is 'nowhere'"),
    (BYTES, {"merges": ["t qqqq"]}, "tokenizer.ggml.merges[0] is 't qqqq'"),
    (BYTES, {"token_type": [1, 2, 3]}, "tokenizer.ggml.token_type has 3 entries"),
    (BYTES, {"token_type": [77] * 553}, "tokenizer.ggml.token_type holds 77"),
    (BYTES, {"eos_token_id": None}, "it lacks the key 'tokenizer.ggml.eos_token_id'"),
    (BYTES, {"eos_token_id": 10**6}, "tokenizer.ggml.eos_token_id is 1000000; there are 553 tokens"),
    (BYTES, {"bos_token_id": None, "add_bos_token": True}, "it adds a token to every text that it does not name"),
    (BYTES, {"add_bos_token": 3}, "tokenizer.ggml.add_bos_token is '3'"),
    (BYTES, {"tokens": ["a"] * 553}, "tokens 0 and 552 are both spelled 'a'"),
    (PIECES, {"scores": [0.5]}, "tokenizer.ggml.scores has 1 entries for 1200 tokens"),
    (PIECES, {"scores": None}, "it lacks the list tokenizer.ggml.scores"),
    (PIECES, {"scores": [float("nan")] * 1200}, "tokenizer.ggml.scores holds infinity or NaN"),
    (PIECES, {"token_type": None}, "it lacks the list tokenizer.ggml.token_type"),
    (PIECES, {"token_type": [1] * 1200}, "it has no token for the byte 0x00"),
    (PIECES, {"remove_extra_whitespaces": True}, "removes spaces"),
]


@pytest.mark.parametrize(("kind", "changes", "complaint"), WRONG)
def test_what_contradicts_itself_is_refused_by_name(
    kind: str, changes: dict[str, Any], complaint: str, tmp_path: Path
) -> None:
    model = pieces(before=False)
    say: Say = {
        BYTES: lambda w: say_bytes(w, "qwen2"),
        PIECES: lambda w: say_pieces(w, model, has_space_before=False),
    }[kind]
    with pytest.raises(RhapsodeError) as caught:
        read(tmp_path / "a.gguf", say, **changes)
    assert complaint in caught.value.message
    assert str(tmp_path / "a.gguf") in caught.value.message


def by_score(text: str, scores: dict[str, float]) -> list[str]:
    """SentencePiece's rule, slowly: of all neighbours that make a token, those that make the best, from the left."""
    parts = list(text)
    while True:
        joins = [(-scores[a + b], at) for at, (a, b) in enumerate(itertools.pairwise(parts)) if a + b in scores]
        if not joins:
            return parts
        at = min(joins)[1]
        parts[at : at + 2] = [parts[at] + parts[at + 1]]


def by_merges(text: str, merges: list[tuple[str, str]]) -> list[str]:
    """Byte-pair encoding's rule, slowly: the pair that is first in the list, from the left."""
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    parts = list(text)
    while True:
        joins = [(ranks[pair], at) for at, pair in enumerate(itertools.pairwise(parts)) if pair in ranks]
        if not joins:
            return parts
        at = min(joins)[1]
        parts[at : at + 2] = [parts[at] + parts[at + 1]]


@given(st.lists(st.text("ab", min_size=2, max_size=5), unique=True, max_size=12), st.text("ab", max_size=24))
def test_merges_join_as_scores_do(words: list[str], text: str) -> None:
    scores = {"a": -100.0, "b": -101.0} | {word: -float(rank) for rank, word in enumerate(words)}
    assert by_merges(text, list(merges_of(scores))) == by_score(text, scores)


@given(st.integers(2, 9), st.integers(0, 40))
def test_a_run_of_equal_scores_is_joined_from_the_left_into_the_longest(longest: int, length: int) -> None:
    scores = {"a" * size: 0.0 for size in range(1, longest + 1)}
    parts = by_merges("a" * length, list(merges_of(scores)))
    assert parts == by_score("a" * length, scores)
    assert parts == ["a" * longest] * (length // longest) + ["a" * (length % longest)] * (length % longest > 0)
