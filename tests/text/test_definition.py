"""A tokenizer.json that is damaged or hostile: an error that says what is wrong, soon and in little memory."""

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rhapsode.core.errors import RhapsodeError
from rhapsode.text.tokenizer import Tokenizer

Shape = dict[str, Any]
DIGITS = {"type": "Digits", "individual_digits": True}


def load(shape: object) -> Tokenizer:
    source = shape if isinstance(shape, str) else json.dumps(shape)
    return Tokenizer(source, names={"bos_token": "<s>", "eos_token": "</s>"}, chat_template="")


def vocab(shape: Shape) -> dict[str, int]:
    words: dict[str, int] = shape["model"]["vocab"]
    return words


def added(shape: Shape) -> list[Shape]:
    rows: list[Shape] = shape["added_tokens"]
    return rows


def regex(shape: Shape, pattern: str) -> None:
    shape["pre_tokenizer"] = {
        "type": "Split",
        "pattern": {"Regex": pattern},
        "behavior": "Isolated",
        "invert": False,
    }


def nested(depth: int) -> Shape:
    stage: Shape = DIGITS
    for _ in range(depth):
        stage = {"type": "Sequence", "pretokenizers": [stage]}
    return stage


FAULTS: dict[str, tuple[Callable[[Shape], object], str]] = {
    "merge of no words": (
        lambda s: s["model"]["merges"].append(["zz", "qq"]),
        r"in model.merges\[\d+\], which",
    ),
    "merge to no word": (lambda s: s["model"]["merges"].append(["<s>", "<s>"]), "which model.vocab does not know"),
    "merge of three": (
        lambda s: s["model"]["merges"].append(["a", "b", "c"]),
        r"no pair .* model.merges\[\d+\]",
    ),
    "merge of numbers": (lambda s: s["model"]["merges"].append([1, 2]), "is damaged"),
    "merges are text": (lambda s: s["model"].update(merges="a b"), "no list of pairs"),
    "merges are numbers": (lambda s: s["model"].update(merges=[1, 2]), "no list of pairs"),
    "no vocab": (lambda s: s["model"].pop("vocab"), "is damaged"),
    "empty vocab": (lambda s: s["model"].update(vocab={}), "no tokens"),
    "vocab is a list": (lambda s: s["model"].update(vocab=["a"]), "no tokens"),
    "id is text": (lambda s: vocab(s).update(a="7"), "gives 'a' the id 7"),
    "id is negative": (lambda s: vocab(s).update(a=-1), "gives 'a' the id -1"),
    "id is half": (lambda s: vocab(s).update(a=1.5), "gives 'a' the id 1.5"),
    "id is true": (lambda s: vocab(s).update(a=True), "gives 'a' the id True"),
    "id is huge": (lambda s: vocab(s).update(a=2**31), "gives 'a' the id 2147483648"),
    "id far away": (lambda s: vocab(s).update(a=2**20), "but ids up to 1,048,576"),
    "id twice": (lambda s: vocab(s).update(zz=vocab(s)["a"]), "two tokens one id"),
    "added id in a hole": (lambda s: added(s).append({**added(s)[0], "id": 5000, "content": "<x>"}), "its place is"),
    "added id of another": (lambda s: added(s).append({**added(s)[0], "id": 300, "content": "<x>"}), "another token's"),
    "added id twice": (lambda s: added(s).append({**added(s)[0], "content": "<x>"}), "one id twice"),
    "added content twice": (lambda s: added(s).append({**added(s)[0], "id": 5000}), "one content twice"),
    "added without text": (lambda s: added(s)[0].update(content=""), "has 0 characters in"),
    "added text is endless": (lambda s: added(s)[0].update(content="x" * 10**6), "has 1000000 characters in"),
    "added is text": (lambda s: s.update(added_tokens=["<s>"]), "is damaged"),
    "added is a number": (lambda s: s.update(added_tokens=7), "is damaged"),
    "added id is text": (lambda s: added(s)[0].update(id="0"), "no id or no content"),
    "model is a list": (lambda s: s.update(model=[]), "no object `model`"),
    "another model": (lambda s: s["model"].update(type="Unigram"), "holds a Unigram model"),
    "word pieces": (lambda s: s["model"].update(continuing_subword_prefix="##"), "neither byte-level BPE nor"),
    "another decoder": (lambda s: s.update(decoder={"type": "BPEDecoder", "suffix": "</w>"}), "decoder is of another"),
    "no decoder": (lambda s: s.update(decoder=None), "decoder is of another kind"),
    "decoder is a list": (lambda s: s.update(decoder=[]), "is damaged"),
    "stage without a type": (lambda s: s.update(normalizer={}), "is damaged"),
    "stage unheard of": (lambda s: s.update(normalizer={"type": "Rot13"}), "is damaged"),
    "stages without end": (lambda s: s.update(pre_tokenizer=nested(150)), "is damaged"),
    "regex of 10 MB": (lambda s: regex(s, "a" * 10**7), "`pre_tokenizer` of more than 8,192 characters"),
    "regex of 10 MB of choices": (lambda s: regex(s, "a|" * 5_000_000), "`pre_tokenizer` of more than"),
    "regex that is none": (lambda s: regex(s, "("), "is damaged"),
    "regex too deep": (lambda s: regex(s, "(" * 3500 + "a" + ")" * 3500), "is damaged"),
    "growth without end": (
        lambda s: s.update(
            normalizer={
                "type": "Sequence",
                "normalizers": [{"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 10}] * 9,
            }
        ),
        "more than 64 times as long",
    ),
    "too many values": (lambda s: s.update(more=[0] * 2**22), "values, 4,194,304 are allowed"),
    "too many characters": (lambda s: s.update(more="x" * 2**26), "characters, 50,331,648 are allowed"),
    "prefix of no token": (
        lambda s: s["post_processor"]["special_tokens"]["<s>"].update(ids=[10**6]),
        "there is no token 1000000",
    ),
}
SOURCES = {"nothing": "", "half": '{"model": {"vocab"', "list": "[]", "text": '"tokenizer"', "deep": "[" * 10**6}


@pytest.fixture(scope="module")
def small(kinds: dict[str, Shape]) -> Shape:
    return kinds["llama2"]


@pytest.mark.parametrize("fault", list(FAULTS))
def test_a_fault_is_told(small: Shape, fault: str) -> None:
    shape = copy.deepcopy(small)
    change, message = FAULTS[fault]
    change(shape)
    with pytest.raises(RhapsodeError, match=message) as caught:
        load(shape)
    assert caught.value.hint
    assert len(caught.value.message) < 500


@pytest.mark.parametrize("name", list(SOURCES))
def test_what_is_no_tokenizer_is_refused(name: str) -> None:
    with pytest.raises(RhapsodeError, match=r"tokenizer\.json (is damaged|has no object)"):
        load(SOURCES[name])


def test_a_token_that_is_named_must_be_there(small: Shape) -> None:
    with pytest.raises(RhapsodeError, match="names no eos_token"):
        Tokenizer(json.dumps(small), names={"bos_token": "<s>"}, chat_template="")
    with pytest.raises(RhapsodeError, match="no token '<nowhere>'"):
        Tokenizer(json.dumps(small), names={"eos_token": "<nowhere>"}, chat_template="")


def test_a_regex_that_takes_for_ever_is_an_error(kinds: dict[str, Shape]) -> None:
    shape = copy.deepcopy(kinds["gpt2"])
    shape["pre_tokenizer"] = {
        "type": "Sequence",
        "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False},
            shape["pre_tokenizer"],
        ],
    }
    loaded = Tokenizer(json.dumps(shape), names={"eos_token": "<|endoftext|>"}, chat_template="")
    with pytest.raises(RhapsodeError, match="the text cannot be encoded"):
        loaded.encode("a" * 40 + "b")


def test_older_files_do_not_say_what_their_model_is(kinds: dict[str, Shape]) -> None:
    shape = copy.deepcopy(kinds["gpt2"])
    del shape["model"]["type"]
    shape["model"] |= {"continuing_subword_prefix": "", "end_of_word_suffix": "", "unk_token": ""}
    shape["model"]["merges"] = [" ".join(pair) for pair in shape["model"]["merges"]]
    names = {"eos_token": "<|endoftext|>"}
    older = Tokenizer(json.dumps(shape), names=names, chat_template="")
    newer = Tokenizer(json.dumps(kinds["gpt2"]), names=names, chat_template="")
    assert older.encode("self the parser") == newer.encode("self the parser")


VALUES: list[Any] = [
    *(None, True, False, -1, 0, 1, 2, 7, 300, 2**31, 2**64, 1.5, [], {}, [["a", "b"]]),
    *("", "a", "ab", "▁", " ", "<s>", "BPE", "Sequence", "Split", "ByteLevel", "Metaspace", "first", "Removed"),
    {"type": "Sequence"},
    {"type": "Metaspace", "replacement": "", "prepend_scheme": "first"},
    {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"},
    {"type": "Replace", "pattern": {"Regex": ""}, "content": "▁▁"},
    {"type": "Prepend", "prepend": ""},
    {"type": "FixedLength", "length": 0},
    {"type": "Split", "pattern": {"String": ""}, "behavior": "Removed", "invert": True},
    {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
    {"type": "Lowercase"},
    {"Regex": "a*"},
    {"Regex": "("},
    {"String": "a"},
]


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every container in a JSON value with a key of it."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    return [(value, key) for key in keys] + [place for key in keys for place in places(value[key])]


@st.composite
def changes(draw: st.DrawFn, shape: Shape) -> Shape:
    """`shape` with a few of its values lost or replaced, mostly by others of the same type."""
    changed = copy.deepcopy(shape)
    for _ in range(draw(st.integers(1, 3))):
        spots = places(changed)
        parent, key = spots[draw(st.integers(0, len(spots) - 1))]
        kind = type(parent[key])
        if draw(st.integers(0, 9)) == 0:
            del parent[key]
        else:
            others = [value for value in VALUES if type(value) is kind] if draw(st.booleans()) else VALUES
            parent[key] = copy.deepcopy(draw(st.sampled_from(others)))
    return changed


@settings(max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
@pytest.mark.parametrize("kind", ["llama2", "mistral", "gemma", "llama3"])
def test_only_our_errors_escape(kinds: dict[str, Shape], kind: str, data: st.DataObject) -> None:
    shape = data.draw(changes(tiny(kinds[kind])))
    special = [row["content"] for row in kinds[kind]["added_tokens"] if row["special"]]
    try:
        loaded = Tokenizer(json.dumps(shape), names={"eos_token": special[-1]}, chat_template="")
        ids = loaded.encode_batch(["ab a <s> é\n\nb", b"a\xffb", "", special[0]])
        loaded.decode([*loaded.prefix, *(token for text in ids for token in text)])
        read = loaded.markup.read(f"ab{special[0]} a{special[-1]}")
        loaded.markup.ids(read, loaded.markup.shield(["ab"]))
    except RhapsodeError as error:
        assert len(error.message) < 700  # noqa: PT017 -- most changes are refused, and some are harmless


def tiny(shape: Shape) -> Shape:
    """The same kind with a handful of words, so that a change often hits what matters."""
    small = copy.deepcopy(shape)
    names = [row["content"] for row in small["added_tokens"]]
    inside = [name for name in names if name in small["model"]["vocab"]]
    words = dict.fromkeys([*inside, "a", "b", "ab", "▁", "▁ab", "Ġ", "Ċ", "<0x0A>", "<0xFF>"])
    small["model"]["vocab"] = {word: index for index, word in enumerate(words)}
    small["model"]["merges"] = [["a", "b"], ["▁", "ab"]]
    outside = [name for name in names if name not in inside]
    ids = small["model"]["vocab"] | {name: len(words) + number for number, name in enumerate(outside)}
    for row in small["added_tokens"]:
        row["id"] = ids[row["content"]]
    if begin := (small["post_processor"] or {}).get("special_tokens"):
        for name, token in begin.items():
            token["ids"] = [row["id"] for row in small["added_tokens"] if row["content"] == name]
    return small
