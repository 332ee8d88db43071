import json
from pathlib import Path
from typing import Any

import pytest
from gguf import TokenType

from rhapsode.core.errors import RhapsodeError
from rhapsode.export.gguf.vocabulary import Vocabulary, has_space_before, read_vocabulary
from rhapsode.text.definition import read_definition

SPACE = "▁"
BYTES = {f"<0x{byte:02X}>": 3 + byte for byte in range(256)}
WORDS = {"<unk>": 0, "<s>": 1, "</s>": 2} | BYTES | {SPACE: 259, "a": 260, "b": 261, "ab": 262, "▁ab": 263, "▁▁": 264}


def spelled(**changes: Any) -> dict[str, Any]:
    """A tokenizer.json of SentencePiece's kind, as publishers of Llama 2 and Gemma have it."""
    added = [(0, "<unk>", True), (1, "<s>", True), (2, "</s>", True), (264, "▁▁", False), (266, "<later>", True)]
    return {
        "added_tokens": [{"id": i, "content": text, "special": special} for i, text, special in added],
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": SPACE},
        "pre_tokenizer": None,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
            ],
        },
        "model": {
            "type": "BPE",
            "byte_fallback": True,
            "unk_token": "<unk>",
            "vocab": WORDS,
            "merges": [["a", "b"], [SPACE, "ab"], ["▁a", "b"]][:2],
        },
    } | changes


def read(shape: dict[str, Any], *, size: int = 268) -> Vocabulary:
    return read_vocabulary(shape["model"], read_definition(json.dumps(shape)), size=size)


def test_every_kind_of_token_has_its_type() -> None:
    found = read(spelled())
    kinds = {text: TokenType(kind).name for text, kind in zip(found.tokens, found.types, strict=True)}
    assert found.is_spelled
    assert kinds["<unk>"] == "UNKNOWN"
    assert kinds["<s>"] == kinds["</s>"] == kinds["<later>"] == "CONTROL"
    assert {kinds[name] for name in BYTES} == {"BYTE"}
    assert kinds["ab"] == kinds[SPACE] == "NORMAL"
    assert kinds["[PAD265]"] == kinds["[PAD267]"] == "UNUSED"


def test_tokens_that_are_found_in_raw_text_are_written_with_plain_spaces() -> None:
    found = read(spelled())
    assert found.tokens[264] == "  "
    assert found.types[264] == TokenType.USER_DEFINED
    assert found.tokens[263] == "▁ab"


def test_scores_fall_in_the_order_of_the_merges_and_what_no_merge_makes_comes_last() -> None:
    scores = dict(zip(read(spelled()).tokens, read(spelled()).scores, strict=True))
    assert scores["ab"] > scores["▁ab"] > scores["a"] > scores["b"]
    assert scores["<0x41>"] == 0
    assert scores["<s>"] == scores["  "] == -1000


def test_both_spellings_of_merges_are_read() -> None:
    as_text = spelled()
    as_text["model"] = as_text["model"] | {"merges": ["a b", "▁ ab"]}
    assert read(as_text) == read(spelled())


def test_a_token_without_a_row_in_the_embedding_is_refused() -> None:
    with pytest.raises(RhapsodeError, match="a token 266, config.json a vocabulary of 266"):
        read(spelled(), size=266)


@pytest.mark.parametrize(
    ("stages", "expected"),
    [
        ({}, False),
        ({"normalizer": {"type": "Prepend", "prepend": SPACE}}, True),
        ({"normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": SPACE}]}}, True),
        ({"pre_tokenizer": {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "first"}}, True),
        ({"pre_tokenizer": {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "never"}}, False),
        ({"pre_tokenizer": {"type": "Metaspace", "replacement": SPACE, "add_prefix_space": False}}, False),
    ],
)
def test_a_space_before_the_text_is_found_wherever_it_is_said(stages: dict[str, Any], expected: bool) -> None:
    assert has_space_before(read_definition(json.dumps(spelled(**stages)))) is expected


def test_a_byte_level_vocabulary_keeps_its_merges(words_dir: Path) -> None:
    shape = json.loads((words_dir / "tokenizer.json").read_text())
    found = read(shape, size=300)
    assert not found.is_spelled
    assert found.metadata()["model"] == "gpt2"
    assert "scores" not in found.metadata()
    assert found.merges == [" ".join(merge) for merge in shape["model"]["merges"]]
