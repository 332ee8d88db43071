import pytest

from rhapsode.core.errors import RhapsodeError
from rhapsode.evaluate.scorers.label import label
from rhapsode.evaluate.scorers.registry import REWARDS, reward


@pytest.mark.parametrize("answer", ["Beschwerde", " Beschwerde\n"])
def test_the_label_alone_is_right(answer: str) -> None:
    assert label(answer, "Beschwerde") == 1


@pytest.mark.parametrize("answer", ["", "beschwerde", "Beschwerde.", "Die Beschwerde", "Beschwerde Lob", "Beschwer de"])
def test_anything_else_is_not(answer: str) -> None:
    assert label(answer, "Beschwerde") == 0


def test_an_accent_is_the_same_however_it_is_composed() -> None:
    assert label("re\u0301sume\u0301", "r\u00e9sum\u00e9") == 1


def test_an_empty_label_is_a_fault_of_the_row() -> None:
    with pytest.raises(RhapsodeError, match="label is empty"):
        label("", " ")


def test_every_reward_is_there_by_its_name() -> None:
    for name in REWARDS:
        assert callable(reward(name))
    with pytest.raises(RhapsodeError) as error:
        reward("numbr")
    assert error.value.hint == "did you mean 'number'?"
