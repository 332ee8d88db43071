import copy
import json
from typing import Any

import pytest
import tokenizers
from tests.weights.gguf.texts import texts
from tests.weights.gguf.vocabularies import own_shape

from rhapsode.core.errors import RhapsodeError
from rhapsode.text.stages import SPLIT
from rhapsode.weights.gguf.pre_tokenizers import PRE_TOKENIZERS, name_of, pre_tokenizer


def shape(name: str) -> dict[str, Any]:
    """What a tokenizer.json says about it."""
    known = pre_tokenizer(name, where="a.gguf")
    model = {"type": "BPE", "ignore_merges": known.ignore_merges}
    return {"pre_tokenizer": known.pre_tokenizer, "normalizer": known.normalizer, "model": model}


@pytest.mark.parametrize("name", PRE_TOKENIZERS)
def test_a_name_leads_back_to_one_that_splits_the_same(name: str) -> None:
    assert shape(name_of(shape(name))) == shape(name)


def test_our_own_tokenizers_have_a_name_that_merges_whole_words_too() -> None:
    assert name_of(own_shape()) == "dbrx"


@pytest.mark.parametrize("name", ["llama-bpe", "dbrx", "qwen2", "gpt-2", "smollm", "tekken", "olmo"])
def test_the_names_that_are_written_are_the_usual_ones(name: str) -> None:
    assert name_of(shape(name)) == name


def test_spellings_that_split_the_same_are_the_same() -> None:
    said = shape("gpt-2")
    said["pre_tokenizer"] = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False}
    assert name_of(said) == "gpt-2"
    said["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [said["pre_tokenizer"]]}
    said["normalizer"] = {"type": "Sequence", "normalizers": []}
    del said["model"]["ignore_merges"]
    assert name_of(said) == "gpt-2"


CHANGES = {
    "another expression": ("pre_tokenizer.pretokenizers.0.pattern.Regex", SPLIT.replace("{1,3}", "{1,4}")),
    "another behaviour": ("pre_tokenizer.pretokenizers.0.behavior", "Removed"),
    "inverted": ("pre_tokenizer.pretokenizers.0.invert", True),
    "a space before": ("pre_tokenizer.pretokenizers.1.add_prefix_space", True),
    "split again": ("pre_tokenizer.pretokenizers.1.use_regex", True),
    "no stage": ("pre_tokenizer", None),
    "another normaliser": ("normalizer", {"type": "NFKC"}),
    "small letters": ("normalizer", {"type": "Lowercase"}),
}


@pytest.mark.parametrize("case", CHANGES)
def test_what_splits_otherwise_has_no_name(case: str) -> None:
    path, value = CHANGES[case]
    said: Any = copy.deepcopy(shape("llama-bpe"))
    *way, last = path.split(".")
    inner = said
    for step in way:
        inner = inner[int(step) if step.isdigit() else step]
    inner[last] = value
    with pytest.raises(RhapsodeError, match=r"llama\.cpp has no name"):
        name_of(said)


def test_an_unknown_name_is_refused_with_the_list() -> None:
    with pytest.raises(RhapsodeError, match=r"a\.gguf: tokenizer\.ggml\.pre is 'a-way-to-come'") as caught:
        pre_tokenizer("a-way-to-come", where="a.gguf")
    assert "llama-bpe" in caught.value.hint


@pytest.mark.parametrize("name", PRE_TOKENIZERS)
def test_the_library_reads_every_one_and_splits_without_loss(name: str) -> None:
    known = shape(name)["pre_tokenizer"]
    model = {"type": "BPE", "vocab": {}, "merges": []}
    backend = tokenizers.Tokenizer.from_str(json.dumps({"pre_tokenizer": known, "model": model}))
    for text in texts(100):
        joined = "".join(piece for piece, _ in backend.pre_tokenizer.pre_tokenize_str(text))
        assert tokenizers.decoders.ByteLevel().decode([joined]) == text
