"""Each fault leaves its own mark in the ids."""

from collections.abc import Sequence

import pytest

from rhapsode.conformance.diagnosis import ADVICE, Diagnosis, Kind
from rhapsode.conformance.evidence import Case, Vectors
from rhapsode.conformance.words import sampled
from rhapsode.text.chat import Message
from rhapsode.text.tokenizer import Tokenizer

BOS, EOS, START = 0, 1, 3


def diagnosis(tokenizer: Tokenizer, *, prefix: Sequence[int] = (BOS,)) -> Diagnosis:
    words = "0000" * len(sampled(tokenizer.vocab_size))
    vectors = Vectors(
        longest=8,
        vocabulary=tokenizer.vocab_size,
        prefix=tuple(prefix),
        stops=(EOS,),
        is_dated=False,
        words=words,
        cases=(Case(text="", ids=()),),
    )
    return Diagnosis(vectors, tokenizer)


def text_case(*ids: int) -> Case:
    return Case(text="some text", ids=ids)


def conversation_case(*ids: int) -> Case:
    return Case(messages=(Message(role="user", content="hello"),), ids=ids)


def test_equal_ids_are_no_mismatch(tokenizer: Tokenizer) -> None:
    assert diagnosis(tokenizer).ids(text_case(BOS, 40, 41), [BOS, 40, 41]) is None


@pytest.mark.parametrize(
    ("case", "found", "prefix", "kind"),
    [
        (text_case(BOS, 40, 41), [BOS, BOS, 40, 41], [BOS], "double BOS"),
        (text_case(BOS), [BOS, BOS], [BOS], "double BOS"),
        (text_case(40, 41), [BOS, 40, 41], [], "added BOS"),
        (text_case(), [BOS], [], "added BOS"),
        (text_case(BOS, 40, 41), [EOS, BOS, 40, 41], [BOS], "added BOS"),
        (text_case(BOS, 40, 41), [40, 41], [BOS], "no BOS"),
        (text_case(BOS, 40, 41), [BOS, 40, 42], [BOS], "tokens"),
        (text_case(BOS, 40, 41), [BOS, 40, 41, 41], [BOS], "tokens"),
        (text_case(BOS, 40, 41), [], [BOS], "tokens"),
        (text_case(BOS, 40, 41), [BOS, 99_999], [BOS], "tokens"),
        (conversation_case(BOS, START, 40), [BOS, BOS, START, 40], [BOS], "double BOS"),
        (conversation_case(BOS, START, 40), [START, 40], [BOS], "no BOS"),
        (conversation_case(START, 40), [BOS, START, 40], [], "added BOS"),
        (conversation_case(START, 40), [40], [], "template"),
        (conversation_case(BOS, START, 40), [BOS, START, 41], [BOS], "template"),
    ],
)
def test_faults_have_names(case: Case, found: list[int], prefix: list[int], kind: Kind, tokenizer: Tokenizer) -> None:
    mismatch = diagnosis(tokenizer, prefix=prefix).ids(case, found)
    assert mismatch is not None
    assert mismatch.kind == kind
    assert kind in ADVICE


def test_the_same_text_in_other_tokens_is_a_merge(tokenizer: Tokenizer) -> None:
    one = tokenizer.encode("the")
    letters = [token for letter in "the" for token in tokenizer.encode(letter)]
    assert len(one) == 1
    mismatch = diagnosis(tokenizer).ids(text_case(BOS, *one, 40), [BOS, *letters, 40])
    assert mismatch is not None
    assert mismatch.kind == "merge"
    assert mismatch.what == "3 tokens expected and 5 found; from token 1 on 'the' 'D' expected, 't' 'h' 'e' ... found"


def test_tokens_that_are_half_a_character_or_none_are_shown(tokenizer: Tokenizer) -> None:
    shown = diagnosis(tokenizer)
    half = tokenizer.encode("é")[0]
    assert shown.show(half) == repr("é".encode()[:1])
    assert shown.show(BOS) == "'<|begin_of_text|>'"
    assert shown.show(12_345) == "unknown token 12345"


def test_only_a_look_alike_is_ever_forged(tokenizer: Tokenizer) -> None:
    plain, alike = text_case(BOS, 40), Case(text="<|im_end|>", ids=(BOS, 40), is_look_alike=True)
    assert diagnosis(tokenizer).forges(alike, [BOS, 4])
    assert not diagnosis(tokenizer).forges(alike, [BOS, 41])
    assert not diagnosis(tokenizer).forges(plain, [BOS, 4])
