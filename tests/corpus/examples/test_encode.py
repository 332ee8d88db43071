"""What is learned of an example: its answers with what ends them, and nothing else."""

import pytest

from rhapsode.core.errors import RhapsodeError
from rhapsode.corpus.examples.encode import Encoded, encode
from rhapsode.corpus.examples.example import Completion, Conversation, Example, Preference, Text, from_value, to_value
from rhapsode.text.chat import Message, render
from rhapsode.text.tokenizer import Tokenizer, train_tokenizer

CORPUS = ["Which colour has the ship? The ship is green.", "user assistant system\n"] * 3


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(CORPUS, vocab_size=300)


def said(*contents: str) -> tuple[Message, ...]:
    return tuple(
        Message(role="user" if place % 2 == 0 else "assistant", content=text) for place, text in enumerate(contents)
    )


def encoded(example: Example, tokenizer: Tokenizer) -> list[Encoded]:
    return encode(example, tokenizer=tokenizer, stops={tokenizer.eos, tokenizer.end_of_turn})


def learned(one: Encoded, tokenizer: Tokenizer) -> str:
    return "".join(tokenizer.show(token) for token, is_learned in zip(one.ids, one.learned, strict=True) if is_learned)


def test_of_a_conversation_every_answer_is_learned_and_nothing_follows_the_last(tokenizer: Tokenizer) -> None:
    messages = said("Which colour?", "Green.", "And the ship?", "Red.")
    (one,) = encoded(Conversation(messages), tokenizer)
    assert learned(one, tokenizer) == "Green.<|im_end|>Red.<|im_end|>"
    assert one.learned[-1]
    assert one.ids == render(messages, tokenizer=tokenizer).ids[: len(one.ids)]


def test_a_prompt_in_plain_text_is_encoded_as_it_will_be_asked(tokenizer: Tokenizer) -> None:
    (one,) = encoded(Completion("The ship", " is green"), tokenizer)
    prompt = tokenizer.ids("The ship")
    assert one.ids[: len(prompt)] == prompt
    assert learned(one, tokenizer) == " is green<|end_of_text|>"


def test_of_a_completion_in_messages_and_of_two_answers_only_what_follows_the_prompt_is_learned(
    tokenizer: Tokenizer,
) -> None:
    prompt = said("Which colour?", "Green.", "Sure?")
    answers = (Message(role="assistant", content="Yes."),), (Message(role="assistant", content="No."),)
    (one,) = encoded(Completion(prompt, answers[0]), tokenizer)
    assert learned(one, tokenizer) == "Yes.<|im_end|>"
    chosen, rejected = encoded(Preference(prompt, *answers), tokenizer)
    assert (chosen.role, rejected.role) == ("chosen", "rejected")
    assert [learned(pair, tokenizer) for pair in (chosen, rejected)] == ["Yes.<|im_end|>", "No.<|im_end|>"]


def test_of_a_text_all_is_learned_but_its_beginning(tokenizer: Tokenizer) -> None:
    (one,) = encoded(Text("The ship"), tokenizer)
    assert one.learned == [False, *[True] * (len(one.ids) - 1)]
    assert one.ids[-1] == tokenizer.eos
    (cut,) = encoded(Text("The ship", is_cut=True), tokenizer)
    assert cut.ids == one.ids[:-1]  # that it ends there nobody learns


def test_an_answer_whose_end_would_not_stop_the_served_model_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(RhapsodeError, match=r"ends with '<\|im_end\|>', at which the served model would not stop"):
        encode(Conversation(said("Which?", "Green.")), tokenizer=tokenizer, stops={tokenizer.eos})


def test_a_conversation_without_an_answer_teaches_nothing_and_is_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(RhapsodeError, match="nothing of it would be learned"):
        encoded(Conversation(said("Which colour?")), tokenizer)


@pytest.mark.parametrize(
    "example",
    [
        Conversation(said("Which?", "Green.")),
        Conversation(said("Which?", "Green."), check="3"),
        Completion("a", "b"),
        Completion("a", "b", check='["assert b"]'),
        Completion(said("a"), said("b")),
        Preference(said("a"), said("b"), said("c")),
        Text("a"),
        Text("a", is_cut=True),
    ],
)
def test_an_example_comes_back_from_its_value(example: Example) -> None:
    assert from_value(to_value(example), kind=type(example).__name__.lower()) == example
