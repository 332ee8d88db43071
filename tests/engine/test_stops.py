import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhapsode.core.errors import RhapsodeError
from rhapsode.engine.stops import StopStrings

LETTERS = st.text("ab", max_size=14)


def given_out(stops: list[str], pieces: list[str]) -> list[str]:
    found = StopStrings(stops)
    return [*(found.push(piece) for piece in pieces), found.finish()]


@given(st.lists(st.text("ab", min_size=1, max_size=4), max_size=3), st.lists(LETTERS, max_size=6))
def test_what_is_given_out_does_not_depend_on_the_pieces_and_holds_no_stop_string(
    stops: list[str], pieces: list[str]
) -> None:
    whole = "".join(pieces)
    ends = [(whole.find(stop) + len(stop), whole.find(stop)) for stop in stops if stop in whole]
    expected = whole[: min(ends)[1]] if ends else whole
    assert "".join(given_out(stops, pieces)) == expected
    assert "".join(given_out(stops, list(whole))) == expected


@given(st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=3), st.lists(LETTERS, max_size=6))
def test_nothing_is_given_out_that_may_begin_a_stop_string_and_nothing_else_is_held(
    stops: list[str], pieces: list[str]
) -> None:
    found, seen, out = StopStrings(stops), "", ""
    for piece in pieces:
        seen += piece
        out += found.push(piece)
        if found.is_met:
            return
        begun = max((n for stop in stops for n in range(len(stop)) if seen.endswith(stop[:n])), default=0)
        assert out == seen[: len(seen) - begun]


def test_the_longest_end_that_may_begin_a_stop_string_is_held() -> None:
    assert given_out(["</s>", "END"], ["a<", "/s", " b</", "s>c"]) == ["a", "", "</s b", "", ""]
    assert given_out(["END"], ["xEN"]) == ["x", "EN"]


@pytest.mark.parametrize("stops", [["a"] * 5, [""], ["a" * 129]])
def test_limits(stops: list[str]) -> None:
    with pytest.raises(RhapsodeError, match="stop"):
        StopStrings(stops)
