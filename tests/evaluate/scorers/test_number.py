from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhapsode.core.errors import RhapsodeError
from rhapsode.evaluate.scorers.number import final_number, number, number_near

CASES = {
    "She sold 48/2 = <<48/2=24>>24 clips in May.\n#### 72": Fraction(72),
    "#### 1,234": Fraction(1234),
    "#### -5": Fraction(-5),
    "#### $18.00": Fraction(18),
    "it costs $18.50.": Fraction(37, 2),
    "The answer is **42**.": Fraction(42),
    "first 3, then 4": Fraction(4),
    "5-3=2": Fraction(2),
    "that leaves 10-15": Fraction(15),  # a difference and not a sign
    "it is \u22127": Fraction(-7),
    "so $-3": Fraction(-3),
    "-$3": Fraction(-3),
    r"Hence \boxed{1/2}, which took 3 steps.": Fraction(1, 2),
    r"\boxed{5} and no, \boxed{ -1,000 }": Fraction(-1000),
    "about 2.5e3 of them": Fraction(2500),
    "1,234,567.89": Fraction(123456789, 100),
    "1,23": Fraction(23),  # no thousands: a list
    ".5": Fraction(1, 2),
    "50%": Fraction(50),
    "#### none": None,
    r"\boxed{x} is 3": None,
    "no number": None,
    "": None,
    "1/0": None,
    "9" * 100_000: None,
}


@pytest.mark.parametrize("text", CASES, ids=lambda text: text[:20])
def test_the_number_that_an_answer_comes_to(text: str) -> None:
    assert final_number(text) == CASES[text]


@given(value=st.integers(-(10**12), 10**12), filler=st.text(max_size=50))
def test_a_marked_number_is_found_however_it_is_written(value: int, filler: str) -> None:
    for written in (str(value), f"{value:,}", f"{value}.00", f"{value}.", f" {value}\n"):
        assert number(f"{filler}\n#### {written}", f"#### {value}") == 1
    assert number(f"{filler}\n#### {value + 1}", f"#### {value}") == 0


@given(st.text())
def test_no_answer_is_an_error(answer: str) -> None:
    assert number(answer, "#### 123456789123") in (0, 1)


def test_an_answer_that_is_marked_in_vain_is_wrong_although_its_text_has_the_number() -> None:
    assert number("it is 7\n#### seven", "7") == 0


def test_a_right_answer_without_a_number_is_a_fault_of_the_row() -> None:
    with pytest.raises(RhapsodeError, match="'forty two' has no number"):
        number("42", "forty two")


@pytest.mark.parametrize(
    ("answer", "near"), [("3", 0.5), ("9", 1), ("10", 18 / 19), ("-9", 0), ("0", 0), ("none", 0), ("27", 0.5)]
)
def test_a_number_is_worth_the_more_the_nearer_it_is(answer: str, near: float) -> None:
    assert number_near(answer, "9") == pytest.approx(near)


@given(st.integers(-(10**12), 10**12), st.integers(-(10**12), 10**12))
def test_nearness_is_the_same_both_ways_and_whole_only_where_equal(one: int, other: int) -> None:
    near = number_near(str(one), str(other))
    assert near == number_near(str(other), str(one))
    assert 0 <= near <= 1
    assert (near == 1) == (one == other)
    assert number_near(str(one), str(one)) == 1
