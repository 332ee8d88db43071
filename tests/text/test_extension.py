"""A vocabulary with more tokens: every reader gives the same ids, and no text needs more of them than before."""

import json
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import transformers

from rhapsode.conformance.torture import torture_strings
from rhapsode.core.errors import RhapsodeError
from rhapsode.corpus.new_tokens import NewTokens, extend_tokenizer, find_new_tokens, write_extended
from rhapsode.corpus.tokens_config import TokensConfig
from rhapsode.text.tokenizer import Tokenizer
from rhapsode.weights.gguf.pieces import merges_of

Make = Callable[..., Path]
NEW = ["The rhapsode recites the rhapsody of rhapsodes, and rhapsodises.\n", "self.assertRhapsody(rhapsode)\n"] * 20
SPECIAL = "<|note|>"


def extend(tokenizer: Tokenizer, **config: Any) -> tuple[Tokenizer, NewTokens]:
    asked = TokensConfig(**config)
    new = find_new_tokens(tokenizer, asked, NEW)
    return extend_tokenizer(tokenizer, new, asked), new


@pytest.fixture
def learned(foreign: Path) -> tuple[Tokenizer, Tokenizer, NewTokens]:
    before = Tokenizer.load(foreign)
    return before, *extend(before, new_pieces=20, new_special=[SPECIAL])


def test_new_text_is_read_in_fewer_ids_and_comes_back(learned: tuple[Tokenizer, Tokenizer, NewTokens]) -> None:
    before, after, new = learned
    assert 10 < new.num_pieces <= 20
    assert list(new.ids) == [after.special(word) for word in new.words]
    assert new.first == before.vocab_size
    for text in NEW:
        assert after.decode(after.encode(text)) == before.decode(before.encode(text))
        assert len(after.encode(text)) < 0.7 * len(before.encode(text))
    assert after.encode(SPECIAL) != [after.special(SPECIAL)]


def test_no_text_needs_more_ids_and_old_tokens_keep_their_bytes(
    learned: tuple[Tokenizer, Tokenizer, NewTokens],
) -> None:
    before, after, new = learned
    texts = [text for text in torture_strings(before) if SPECIAL not in text]
    for text, old, now in zip(texts, before.encode_batch(texts), after.encode_batch(texts), strict=True):
        assert len(now) <= len(old), repr(text)
        assert after.decode_bytes(now) == before.decode_bytes(old), repr(text)
        if new.first > max(now, default=0):
            assert now == old, repr(text)


def test_what_a_piece_replaces_spells_it(learned: tuple[Tokenizer, Tokenizer, NewTokens]) -> None:
    before, after, new = learned
    for token, replaced in zip(new.ids, new.replaced, strict=True):
        assert after.token_bytes(token) == before.decode_bytes(replaced)
        assert len(replaced) != 1


CLASSES = {"gemma": "GemmaTokenizer", "qwen": "Qwen2Tokenizer", "gpt2": "GPT2Tokenizer"}


@pytest.mark.parametrize("is_own_class", [False, True])
def test_transformers_gives_the_same_ids(foreign: Path, *, is_own_class: bool) -> None:
    """Whether it takes tokenizer.json as it stands, or makes its own of the words and merges in it."""
    kind = foreign.name.partition("-")[0]
    if is_own_class and kind not in CLASSES:
        pytest.skip("those of each way to make one are enough")
    before = Tokenizer.load(foreign)
    write_extended(foreign, *extend(before, new_pieces=20, new_special=[SPECIAL]))
    if is_own_class:
        path = foreign / "tokenizer_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"tokenizer_class": CLASSES[kind]}))
    ours, theirs = Tokenizer.load(foreign), transformers.AutoTokenizer.from_pretrained(foreign)
    for text in [*NEW[:20:19], *torture_strings(ours)]:
        if not any(name in text for name in ours.special_names):
            assert theirs(text).input_ids == ours.ids(text), repr(text)
    assert ours.special(SPECIAL) in theirs(f"a{SPECIAL}b").input_ids
    assert theirs.decode([ours.special(SPECIAL)], skip_special_tokens=True) == ""


@pytest.mark.parametrize("kind", ["gemma", "llama2"])
def test_the_merges_are_all_pairs_by_the_order_of_their_unions(kind: str, make: Make) -> None:
    """So do readers that know scores and no merges, such as llama.cpp, where the old list was of that kind."""
    shape = json.loads((directory := make(kind)).joinpath("tokenizer.json").read_text())
    old = [("".join(pair), tuple(pair)) for pair in shape["model"]["merges"]]
    scores = {union: -float(rank) for rank, (union, _) in reversed(list(enumerate(old)))}
    own = {token["content"] for token in shape["added_tokens"]}
    letters = {word: 0.0 for word in shape["model"]["vocab"] if len(word) == 1 and word not in own}
    complete = [list(pair) for pair in merges_of({k: v for k, v in (letters | scores).items() if k not in own})]
    shape["model"]["merges"] = complete
    (directory / "tokenizer.json").write_text(json.dumps(shape, ensure_ascii=False))
    after, new = extend(Tokenizer.load(directory), new_pieces=20)
    merges = [tuple(pair) for pair in json.loads(after.source)["model"]["merges"]]
    least = min(scores.values())
    scores |= {word: least - 1 - number for number, word in enumerate(new.words)}
    assert set(merges) == set(merges_of({k: v for k, v in (letters | scores).items() if k not in own}))
    unions = ["".join(pair) for pair in merges]
    ranks = [scores[union] for union in unions]
    assert all(left >= right for left, right in pairwise(ranks))


def test_words_that_are_asked_for_become_one_token(foreign: Path) -> None:
    before = Tokenizer.load(foreign)
    after, new = extend(before, new_pieces=["rhapsodise", " Rhapsody"])
    assert {"rhapsodise", " Rhapsody"} <= {after.decode([token]) for token in new.ids}
    for text in ("rhapsodise", " Rhapsody"):
        [word] = after.words.whole(text)
        assert len(after.words.tokens(word)) == 1


@pytest.mark.parametrize("kind", ["qwen", "gemma"])
def test_pieces_are_those_that_save_most(kind: str, make: Make) -> None:
    before = Tokenizer.load(make(kind))
    saved = []
    for count in (1, 5, 20):
        after, _ = extend(before, new_pieces=count)
        saved.append(sum(map(len, before.encode_batch(NEW))) - sum(map(len, after.encode_batch(NEW))))
    assert saved[0] < saved[1] < saved[2]
    pairs = Counter(
        (left, right)
        for text in NEW
        for word in before.words.of(text)
        for left, right in pairwise(before.words.tokens(word))
    )
    assert saved[0] == max(pairs.values())


def test_it_is_the_same_each_time(foreign: Path) -> None:
    before = Tokenizer.load(foreign)
    assert extend(before, new_pieces=12)[0].source == extend(Tokenizer.load(foreign), new_pieces=12)[0].source


@pytest.mark.parametrize(
    ("kind", "config", "message"),
    [
        ("qwen", {"new_pieces": ["New rhapsode"]}, "the base cuts it into"),
        ("qwen", {"new_pieces": ["self"]}, "is a token of the base already"),
        ("gemma", {"new_pieces": ["rhapsode\U0001f9ff"]}, "a letter that the base spells in bytes"),
        ("qwen", {"new_special": ["<|im_end|>"]}, "is there already"),
        ("qwen", {"new_special": ["<|a|>", "<|a|>"]}, "is there already"),
    ],
)
def test_what_cannot_be_is_refused(kind: str, config: dict[str, Any], message: str, make: Make) -> None:
    with pytest.raises(RhapsodeError, match=message):
        extend(Tokenizer.load(make(kind)), **config)


def test_numbers_are_read_as_before(foreign: Path) -> None:
    before = Tokenizer.load(foreign)
    words = before.words
    asked = TokensConfig(new_pieces=50)
    new = find_new_tokens(before, asked, ["In 20317 and 20317 it was 20317.\n"] * 50)
    assert not any(char.isdigit() for word in new.words for char in word)
    assert words.whole("a")
