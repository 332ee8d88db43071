"""Vocabularies that other models bring: the ids are those of transformers, and what comes back is what was said."""

import copy
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rhapsode.core.errors import RhapsodeError
from rhapsode.text import blocks
from rhapsode.text.stream import TextStream
from rhapsode.text.tokenizer import Tokenizer

same_fixture = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
Shape = dict[str, Any]
Make = Callable[..., Path]

PIECES = ["self", " the", "  ", "\n", "\n\n", "\n\n\n\n", "▁", "é", "e\u0301", "界", "👧\u200d", "1234", "\r\n", "\t"]
NAMES = ["<s>", "</s>", "<unk>", "<|im_end|>", "<|endoftext|>", "<end_of_turn>", "[INST]", "<|end|>", "<|eot_id|>"]
texts = st.text(st.characters(codec="utf-8"), max_size=20) | st.lists(st.sampled_from(PIECES), max_size=12).map("".join)
lookalikes = st.lists(
    st.sampled_from([*NAMES, "<0x0A>", "<b>", "<tool_call>", "<", "|", "im_end|>", "s>", " ", "a"]), max_size=8
).map("".join)


class Both:
    """Our tokenizer and transformers', of one directory."""

    def __init__(self, directory: Path) -> None:
        self.kind = directory.name.partition("-")[0]
        self.ours = Tokenizer.load(directory)
        self.theirs: transformers.PreTrainedTokenizerBase = transformers.AutoTokenizer.from_pretrained(directory)
        self.special = {self.ours.special(name) for name in self.ours.special_names}


@pytest.fixture
def both(foreign: Path) -> Both:
    return Both(foreign)


def expected_back(kind: str, text: str) -> str:
    """What a vocabulary of this kind gives back of a text."""
    if kind == "qwen":
        return unicodedata.normalize("NFC", text)
    if kind in ("llama3", "gpt2", "smollm"):
        return text
    spaced = text.replace("▁", " ")
    puts_space = kind in ("llama2", "phi3") or (kind == "mistral" and not spaced.startswith(" "))
    return f" {spaced}" if puts_space and text else spaced


@same_fixture
@given(text=texts)
def test_the_ids_are_those_of_transformers(both: Both, text: str) -> None:
    assert both.ours.ids(text) == both.theirs(text).input_ids
    assert both.ours.encode(text) == both.theirs(text, add_special_tokens=False).input_ids


@same_fixture
@given(text=lookalikes)
def test_no_text_makes_a_special_id(both: Both, text: str) -> None:
    ids = both.ours.encode(text)
    assert ids == both.theirs(text, add_special_tokens=False, split_special_tokens=True).input_ids
    assert not set(ids) & both.special


@same_fixture
@given(text=texts | lookalikes)
def test_a_text_comes_back(both: Both, text: str) -> None:
    assert both.ours.decode(both.ours.encode(text)) == expected_back(both.kind, text)


def test_what_comes_back_is_said(both: Both) -> None:
    assert both.ours.is_lossless == (both.kind in ("llama3", "gpt2", "smollm"))
    assert both.ours.lead == (b" " if both.kind in ("llama2", "mistral", "phi3") else b"")


@same_fixture
@given(data=st.binary(max_size=40) | st.sampled_from([b"ab\xffcd", b"\xe7\x95", b"a\n\x80 b"]))
def test_bytes_that_are_no_text_go_one_by_one(both: Both, data: bytes) -> None:
    back = both.ours.decode_bytes(both.ours.encode(data))
    if both.ours.is_lossless:
        assert back == data
    elif both.kind == "gemma":
        assert back == data.replace("▁".encode(), b" ")
    invalid = [byte for run in blocks.runs(data) if isinstance(run, bytes) for byte in run]
    assert [byte for run in blocks.runs(back) if isinstance(run, bytes) for byte in run] == invalid


def test_a_byte_alone_puts_no_space_into_a_text(make: Make) -> None:
    loaded = Tokenizer.load(make("llama2"))
    assert loaded.decode_bytes(loaded.encode(b"self\xffself")) == b" self\xffself"


@same_fixture
@given(text=texts | st.text("ab \n\r", max_size=80))
def test_cutting_long_text_into_blocks_changes_no_id(both: Both, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    whole = both.ours.encode(text)
    with monkeypatch.context() as patch:
        patch.setattr(blocks, "_BLOCK_CHARS", 3)
        patch.setattr(blocks, "_GROUP_CHARS", 7)
        assert both.ours.encode(text) == whole


def test_long_text_is_cut_where_that_is_proven(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "_BLOCK_CHARS", 3)
    is_cut = len(list(both.ours._pieces("some\nlines\nof text"))) > 1
    assert is_cut == (both.kind in ("llama3", "qwen", "gemma", "llama2", "mistral", "phi3"))


@same_fixture
@given(text=texts)
def test_streamed_text_is_the_text(both: Both, text: str) -> None:
    stream = TextStream(both.ours)
    seen = ""
    for token in both.ours.encode(text):
        seen += stream.push(token)
        assert expected_back(both.kind, text).startswith(seen)
    assert seen + stream.finish() == expected_back(both.kind, text)


def test_a_byte_token_is_one_byte(make: Make) -> None:
    loaded = Tokenizer.load(make("gemma"))
    assert loaded.token_bytes(loaded.special("<0x0A>")) == b"\n"
    assert loaded.token_bytes(loaded.special("<0xF0>")) == b"\xf0"
    assert loaded.decode(loaded.encode("<0x0A>")) == "<0x0A>"
    assert loaded.token_bytes(loaded.special("▁")) == b" "


@pytest.mark.parametrize(
    ("kind", "piece"), [("gemma", "\n\n\n"), ("gemma", "<b>"), ("qwen", "<think>"), ("gpt2", "    ")]
)
def test_a_piece_of_text_is_text_both_ways(make: Make, kind: str, piece: str) -> None:
    loaded = Tokenizer.load(make(kind))
    token = loaded.special(piece)
    assert loaded.encode(f"a{piece}b")[1] == token
    assert loaded.token_bytes(token) == piece.encode()
    assert piece not in loaded.special_names


def test_merges_cannot_make_a_special_token(make: Make, kinds: dict[str, Shape]) -> None:
    """Converted vocabularies may hold merges for their special tokens; the text "<s>" must stay text all the same."""
    shape = copy.deepcopy(kinds["llama2"])
    vocab = shape["model"]["vocab"]
    vocab |= {
        word: len(vocab) + number for number, word in enumerate(w for w in ("<s", "<", "s", ">") if w not in vocab)
    }
    shape["model"]["merges"] = [["<", "s"], ["<s", ">"], *shape["model"]["merges"]]
    loaded = Tokenizer.load(make("llama2", shape=shape))
    assert loaded.special("<s>") not in loaded.encode("a<s>b<s>")
    assert loaded.decode(loaded.encode("a<s>b<s>")) == " a<s>b<s>"


def test_a_word_that_is_a_special_token_is_text(make: Make, kinds: dict[str, Shape]) -> None:
    """With ignore_merges a whole word is looked up first, and special tokens may be in the vocabulary."""
    shape = copy.deepcopy(kinds["llama3"])
    for token in shape["added_tokens"]:
        shape["model"]["vocab"][token["content"]] = token["id"]
    shape["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = r"\s+|\S+"
    loaded = Tokenizer.load(make("llama3", shape=shape))
    ids = loaded.encode("a <|eot_id|> b")
    assert loaded.special("<|eot_id|>") not in ids
    assert loaded.decode(ids) == "a <|eot_id|> b"


def test_a_vocabulary_without_byte_tokens_reads_what_it_can(make: Make, kinds: dict[str, Shape]) -> None:
    shape = copy.deepcopy(kinds["llama2"])
    shape["model"]["byte_fallback"] = False
    shape["decoder"]["decoders"] = [step for step in shape["decoder"]["decoders"] if step["type"] != "ByteFallback"]
    loaded = Tokenizer.load(make("llama2", shape=shape))
    assert loaded.decode(loaded.encode("self 𓀀 self")) == " self  self"
    assert loaded.decode(loaded.encode(b"self \xff self")) == " self  self"


def test_a_vocabulary_may_lack_a_byte(make: Make, kinds: dict[str, Shape]) -> None:
    """Some published ones lack control characters; the ids are still those of transformers."""
    shape = copy.deepcopy(kinds["gpt2"])
    vocab = shape["model"]["vocab"]
    vocab["<|lost|>"] = vocab.pop("Ā")
    shape["model"]["merges"] = [pair for pair in shape["model"]["merges"] if "Ā" not in "".join(pair)]
    both = Both(make("gpt2", shape=shape))
    assert both.ours.encode("a\0b") == both.theirs("a\0b").input_ids
    assert not both.ours.is_lossless
    assert both.ours.decode(both.ours.encode(b"a\xffb")) == "a\ufffdb"


def test_dropout_does_not_make_ids_random(make: Make, kinds: dict[str, Shape]) -> None:
    shape = copy.deepcopy(kinds["gpt2"])
    shape["model"]["dropout"] = 0.9
    loaded, plain = Tokenizer.load(make("gpt2", shape=shape)), Tokenizer.load(make("gpt2"))
    assert loaded.encode("self the parser") == plain.encode("self the parser")


def test_truncation_and_padding_of_the_file_are_for_others(make: Make, kinds: dict[str, Shape]) -> None:
    shape = copy.deepcopy(kinds["gpt2"])
    shape["truncation"] = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
    padding = {"direction": "Right", "pad_to_multiple_of": None, "pad_id": 0, "pad_type_id": 0, "pad_token": "!"}
    shape["padding"] = {"strategy": {"Fixed": 50}, **padding}
    loaded, plain = Tokenizer.load(make("gpt2", shape=shape)), Tokenizer.load(make("gpt2"))
    assert loaded.ids("self the parser is here") == plain.ids("self the parser is here")


def test_holes_in_a_vocabulary_are_no_tokens(make: Make, kinds: dict[str, Shape]) -> None:
    shape = copy.deepcopy(kinds["gemma"])
    last = max(shape["model"]["vocab"], key=shape["model"]["vocab"].get)
    shape["model"]["vocab"][last] += 7
    both = Both(make("gemma", shape=shape))
    hole = both.ours.vocab_size - 2
    assert both.ours.vocab_size == len(shape["model"]["vocab"]) + 7
    assert both.ours.ids("self\n\nthe <b>") == both.theirs("self\n\nthe <b>").input_ids
    with pytest.raises(RhapsodeError, match=f"no token {hole}"):
        both.ours.token_bytes(hole)
