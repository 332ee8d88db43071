"""Which prompts are one, so that both stand on the same side."""

import pytest

from rhapsode.corpus.examples.example import same_prompt


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is a ship?", "what is  a ship"),
        ("re-open the gate", "Re open the gate!"),
        ("25 - 759 =", "25-759="),
        ("Open 10 - 18?", "open 10-18"),
        ("see the *bold* word", "see the bold word"),
    ],
)
def test_prompts_that_differ_in_case_spaces_and_punctuation_are_one(one: str, other: str) -> None:
    assert same_prompt(one) == same_prompt(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("25 - 759 =", "25 + 759 ="),
        ("25 * 759", "25 / 759"),
        ("3 + 4", "3 + -4"),
        ("3 - 4", "-3 - 4"),
        ("is 3 < 4?", "is 3 > 4?"),
        ("what is 12", "what is -12"),
    ],
)
def test_sums_with_other_signs_are_not(one: str, other: str) -> None:
    assert same_prompt(one) != same_prompt(other)
