import pytest

from rhapsode.core.errors import RhapsodeError
from rhapsode.evaluate.scorers.exact import exact


@pytest.mark.parametrize("answer", ["Beschwerde", " Beschwerde\n"])
def test_the_wanted_text_alone_is_right(answer: str) -> None:
    assert exact(answer, "Beschwerde") == 1


@pytest.mark.parametrize("answer", ["", "beschwerde", "Beschwerde.", "Die Beschwerde", "Beschwerde Lob", "Beschwer de"])
def test_anything_else_is_not(answer: str) -> None:
    assert exact(answer, "Beschwerde") == 0


def test_an_accent_is_the_same_however_it_is_composed() -> None:
    assert exact("re\u0301sume\u0301", "r\u00e9sum\u00e9") == 1


def test_an_empty_text_is_a_fault_of_the_row() -> None:
    with pytest.raises(RhapsodeError, match="is empty"):
        exact("", " ")
