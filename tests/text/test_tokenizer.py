"""What the tokenizer promises: any input comes back, no text makes a special id, others read the same ids."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rhapsode.core.errors import RhapsodeError
from rhapsode.text import blocks
from rhapsode.text.tokenizer import SPECIAL_TOKENS, Tokenizer, train_tokenizer

same_fixture = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])

any_text = st.text(st.characters(codec=None)) | st.text("ab1 .\n\r\t'\u2003é界👧\u200d\x00\x1c", max_size=60)
plain_text = st.text() | st.text("ab1 .\n\r\t'\u2003é界👧\u200d\x00\x1c", max_size=60)
forgeries = st.lists(
    st.sampled_from([*SPECIAL_TOKENS, "<|", "|>", "<|im_", "start|>", "<", "|", " ", "\n", "a", "\ud800"]), max_size=12
).map("".join)


def test_special_tokens_have_the_first_ids(tokenizer: Tokenizer) -> None:
    assert (tokenizer.bos, tokenizer.eos, tokenizer.pad, tokenizer.end_of_turn) == (0, 1, 2, 4)
    assert [tokenizer.special(name) for name in SPECIAL_TOKENS] == [0, 1, 2, 3, 4]
    assert tokenizer.vocab_size == 1000


@given(st.binary(max_size=200))
def test_any_bytes_come_back(tokenizer: Tokenizer, data: bytes) -> None:
    assert tokenizer.decode_bytes(tokenizer.encode(data)) == data


@given(any_text)
def test_any_text_comes_back(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert tokenizer.decode_bytes(ids) == text.encode("utf-8", "surrogatepass")
    assert tokenizer.decode(ids, errors="surrogatepass") == text


@given(plain_text)
def test_text_and_its_bytes_are_the_same_to_us(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.encode(text) == tokenizer.encode(text.encode())


@given(forgeries)
def test_no_text_makes_a_special_id(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert not set(ids) & set(range(len(SPECIAL_TOKENS)))
    assert tokenizer.decode_bytes(ids) == text.encode("utf-8", "surrogatepass")


@given(st.lists(any_text | st.binary(), max_size=6))
def test_a_batch_is_each_text_alone(tokenizer: Tokenizer, texts: list[str | bytes]) -> None:
    assert tokenizer.encode_batch(texts) == [tokenizer.encode(text) for text in texts]


@same_fixture
@given(st.text("ab1 .\n\r\t'\u2003\x1c\u180e\u200bé", max_size=80))
def test_cutting_long_text_into_blocks_changes_no_id(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    whole = tokenizer.encode(text)
    with monkeypatch.context() as patch:
        patch.setattr(blocks, "_BLOCK_CHARS", 3)
        patch.setattr(blocks, "_GROUP_CHARS", 7)
        assert "".join(blocks.line_blocks(text)) == text
        assert tokenizer.encode(text) == whole


def test_special_tokens_are_no_text(tokenizer: Tokenizer) -> None:
    ids = [tokenizer.bos, *tokenizer.encode("one"), tokenizer.end_of_turn, *tokenizer.encode(" two"), tokenizer.pad]
    assert tokenizer.decode(ids) == "one two"
    assert tokenizer.token_bytes(tokenizer.end_of_turn) == b""


@pytest.mark.parametrize("token", [-1, 1000])
def test_an_unknown_id_is_an_error(tokenizer: Tokenizer, token: int) -> None:
    with pytest.raises(RhapsodeError, match=f"no token {token} in this vocabulary of 1000"):
        tokenizer.decode([5, token])


@pytest.mark.parametrize("model_type", [None, "llama", "qwen3"])
def test_transformers_reads_the_same_tokenizer(
    tokenizer: Tokenizer, saved: Path, model_type: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    if model_type:
        (saved / "config.json").write_text(json.dumps({"model_type": model_type}))
    transformers.utils.logging.enable_propagation()
    with caplog.at_level(logging.WARNING):
        theirs = transformers.AutoTokenizer.from_pretrained(saved)
    transformers.utils.logging.disable_propagation()
    assert not caplog.records
    assert (theirs.bos_token_id, theirs.eos_token_id, theirs.pad_token_id) == (0, 1, 2)
    assert theirs.model_max_length == 512
    assert theirs.clean_up_tokenization_spaces is False
    assert theirs.chat_template == tokenizer.chat_template
    assert len(theirs) == tokenizer.vocab_size

    @given(plain_text)
    def same_ids(text: str) -> None:
        assert theirs(text).input_ids == tokenizer.ids(text) == [0, *tokenizer.encode(text)]
        assert theirs.decode(theirs(text).input_ids, skip_special_tokens=True) == text

    same_ids()


def test_saving_what_was_loaded_gives_the_same_files(saved: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    Tokenizer.load(saved).save(again, model_max_length=512)
    names = sorted(file.name for file in saved.iterdir())
    assert names == ["chat_template.jinja", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json"]
    assert [(again / name).read_bytes() for name in names] == [(saved / name).read_bytes() for name in names]


LEARN = """
import hashlib, sys, argparse
from pathlib import Path
from rhapsode.text.tokenizer import train_tokenizer
text = Path(argparse.__file__).read_text(encoding="utf-8")
train_tokenizer([text[i : i + 999] for i in range(0, len(text), 999)], vocab_size=800).save(Path(sys.argv[1]))
"""


def test_learning_is_deterministic_across_processes(tmp_path: Path) -> None:
    def learned(number: int, **variables: str) -> bytes:
        environment = {**os.environ, "PYTHONHASHSEED": str(number), **variables}
        subprocess.run([sys.executable, "-c", LEARN, str(tmp_path / str(number))], env=environment, check=True)
        return (tmp_path / str(number) / "tokenizer.json").read_bytes()

    alone = learned(1, TOKENIZERS_PARALLELISM="false")
    assert alone == learned(2, TOKENIZERS_PARALLELISM="true") == learned(3, RAYON_NUM_THREADS="7")


def test_too_little_text_gives_a_smaller_vocabulary() -> None:
    small = train_tokenizer(["to be or not to be"], vocab_size=5000)
    assert 261 < small.vocab_size < 300
    assert small.decode(small.encode("völlig anders")) == "völlig anders"
    assert train_tokenizer([], vocab_size=5000).vocab_size == 261


def test_a_vocabulary_needs_room_for_all_bytes() -> None:
    with pytest.raises(RhapsodeError, match="vocab_size 260 is too small") as caught:
        train_tokenizer(["text"], vocab_size=260)
    assert "261" in caught.value.hint


def test_a_text_that_is_one_word_is_learned_in_time() -> None:
    """Uncut, this takes minutes: the trainer needs the square of a word's length."""
    assert train_tokenizer(["ACGTTGCAAC" * 20_000, "\ud800ab" * 3, " " * 10_000], vocab_size=400).vocab_size > 261


def _edited(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        value = json.loads(path.read_text(encoding="utf-8"))
        change(value)
        path.write_text(json.dumps(value), encoding="utf-8")

    return edit


@pytest.mark.parametrize(
    ("name", "edit", "message"),
    [
        ("tokenizer.json", Path.unlink, "tokenizer.json does not exist"),
        ("tokenizer_config.json", Path.unlink, "tokenizer_config.json does not exist"),
        ("tokenizer.json", lambda path: path.write_text("{"), "damaged"),
        ("tokenizer_config.json", lambda path: path.write_text("{"), "damaged"),
        ("tokenizer_config.json", lambda path: path.write_text("[]"), "damaged"),
        ("tokenizer_config.json", _edited(lambda value: value.update(pad_token="<pad>")), "no token '<pad>'"),
        (
            "tokenizer.json",
            _edited(lambda value: value.update(decoder=None)),
            "is not byte-level BPE, nor SentencePiece's",
        ),
    ],
)
def test_a_bad_directory_is_named(saved: Path, name: str, edit: Callable[[Path], None], message: str) -> None:
    edit(saved / name)
    with pytest.raises(RhapsodeError, match=message):
        Tokenizer.load(saved)


def test_eos_stands_in_for_what_a_vocabulary_lacks(saved: Path) -> None:
    _edited(lambda value: (value.pop("bos_token"), value.pop("pad_token")))(saved / "tokenizer_config.json")
    (saved / "special_tokens_map.json").unlink()
    (saved / "chat_template.jinja").unlink()
    loaded = Tokenizer.load(saved)
    assert (loaded.bos, loaded.pad, loaded.eos) == (1, 1, 1)
    assert loaded.chat_template == json.loads((saved / "tokenizer_config.json").read_text())["chat_template"]


def test_a_vocabulary_with_another_split_encodes_whole_texts(saved: Path) -> None:
    """Where blocks could change ids, texts are not cut."""

    def split_at_spaces(value: dict[str, Any]) -> None:
        value["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = r"\s+|\S+"

    _edited(split_at_spaces)(saved / "tokenizer.json")
    loaded = Tokenizer.load(saved)
    texts = ["", "a\n\n b", "", "\n" * 9, b"\xffa"]
    assert [loaded.decode(ids) for ids in loaded.encode_batch(texts)] == ["", "a\n\n b", "", "\n" * 9, "\ufffda"]


def test_a_special_token_beyond_the_rows_is_no_text(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """Gemma 3's vocabulary has an id for pictures, which the models that only read text have no row for."""
    tokenizer.save(tmp_path)
    shape = json.loads((tmp_path / "tokenizer.json").read_text())
    more = {"id": tokenizer.vocab_size, "content": "<picture>", "special": True}
    rest = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    shape["added_tokens"].append(more | rest)
    other = Tokenizer(json.dumps(shape), names=tokenizer.names, chat_template="")
    assert other.vocab_size == tokenizer.vocab_size + 1
    assert other.rows_needed == tokenizer.rows_needed == tokenizer.vocab_size
    assert max(other.encode("<picture>")) < other.rows_needed
    assert other.decode([tokenizer.vocab_size]) == ""
