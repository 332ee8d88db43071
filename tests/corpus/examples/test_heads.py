"""What models that do not write read of an example, and what stands behind it."""

import pytest

from rhapsode.core.errors import PlanRefused, RhapsodeError
from rhapsode.corpus.documents import Document
from rhapsode.corpus.examples.encode import encode
from rhapsode.corpus.examples.example import Completion, Example, Preference
from rhapsode.corpus.examples.heads import Purpose, answered_ids, encode_for, find_purpose, label_of, prompt_ids
from rhapsode.text.chat import Message
from rhapsode.text.tokenizer import Tokenizer

USER = (Message(role="user", content="Sing of ships"),)
GOOD, BAD = ((Message(role="assistant", content=text),) for text in ("a ship came home", "no"))


def test_a_label_stands_behind_what_serving_reads(tokenizer: Tokenizer) -> None:
    purpose = Purpose("classify", ("no", "yes"))
    for prompt in ("the sea", USER):
        example = Completion(prompt, "yes " if isinstance(prompt, str) else (Message(role="assistant", content="yes"),))
        [one] = encode_for(purpose, example, tokenizer=tokenizer, stops=())
        assert one.ids == [*prompt_ids(prompt, (), tokenizer=tokenizer), 1]
        assert one.learned == [False] * (len(one.ids) - 1) + [True]
    assert prompt_ids("", (), tokenizer=tokenizer) == [tokenizer.bos]


def test_a_reward_is_read_at_the_end_of_the_answer(tokenizer: Tokenizer) -> None:
    example, stops = Preference(USER, GOOD, BAD), {tokenizer.eos, tokenizer.end_of_turn}
    found = encode_for(Purpose("reward", ("reward",)), example, tokenizer=tokenizer, stops=stops)
    written = encode(example, tokenizer=tokenizer, stops=stops)
    for one, other, answer in zip(found, written, (GOOD, BAD), strict=True):
        assert (one.ids, one.role) == ([*other.ids, 0], other.role)
        assert one.ids[:-1] == answered_ids((*USER, *answer), (), tokenizer=tokenizer)
        assert one.ids[-2] == tokenizer.end_of_turn


@pytest.mark.parametrize(
    ("example", "texts"),
    [
        (Completion("where is it", "at the gate"), ["where is it", "at the gate"]),
        (Preference(USER, GOOD, BAD), ["Sing of ships", "a ship came home", "no"]),
    ],
)
def test_vectors_are_of_texts_without_who_says_them(example: Example, texts: list[str], tokenizer: Tokenizer) -> None:
    found = encode_for(Purpose("embed"), example, tokenizer=tokenizer, stops=())
    assert [one.ids for one in found] == [[*tokenizer.ids(text), 0] for text in texts]


def document(example: Example) -> Document:
    import json

    from rhapsode.corpus.examples.example import to_value

    value = json.dumps(to_value(example))
    return Document(id="1", text=value, source="rows#1", licence="", meta={"kind": type(example).__name__.lower()})


def test_labels_are_the_answers_in_order_and_many_are_none() -> None:
    rows = [document(Completion(f"{n}", ("b", "a ", "c")[n % 3])) for n in range(9)]
    assert find_purpose("classify", rows) == Purpose("classify", ("a", "b", "c"))
    with pytest.raises(PlanRefused, match="9 different answers"):
        find_purpose("classify", [document(Completion("x", f"{n}")) for n in range(9)])
    with pytest.raises(PlanRefused, match="every training row has the label 'a'"):
        find_purpose("classify", rows[1:2])
    with pytest.raises(PlanRefused, match="empty label"):
        label_of(Completion("x", " "))


def test_a_label_that_was_never_trained_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(RhapsodeError, match="its label 'c' stands on no training row"):
        encode_for(Purpose("classify", ("a", "b")), Completion("x", "c"), tokenizer=tokenizer, stops=())
