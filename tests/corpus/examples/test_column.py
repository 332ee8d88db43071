"""The place of a value in the text of the JSON that holds it."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from rhapsode.core.yaml import Key
from rhapsode.corpus.examples.column import offset_of, place_of

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)
spellings = st.fixed_dictionaries({"indent": st.sampled_from([None, 1, 4]), "ensure_ascii": st.booleans()})


def ways(value: Any, way: Key = ()) -> list[tuple[Key, Any]]:
    """Every key in a value, and what it leads to."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [(way, value), *(found for step, inner in items for found in ways(inner, (*way, step)))]


@given(value=values, spelling=spellings, data=st.data())
def test_a_value_is_found_where_it_stands(value: Any, spelling: dict[str, Any], data: st.DataObject) -> None:
    text = " " + json.dumps(value, **spelling) + "\n"
    key, inner = data.draw(st.sampled_from(ways(value)))
    at = offset_of(text, key)
    assert at is not None
    assert json.JSONDecoder().raw_decode(text, at)[0] == inner
    line, column = place_of(text, key, line=7, column=1)
    assert text.split("\n")[line - 7][column - 1] == text[at]


def test_of_a_way_that_ends_early_the_last_value_counts() -> None:
    text = '{"a": [1, {"b": 2}]}'
    assert offset_of(text, ("a", 1, "c", 0)) == text.index('{"b"')
    assert offset_of(text, ("a", 5)) == text.index("[")
    assert offset_of(text, ("x",)) == 0


def test_a_key_that_is_there_twice_is_the_one_that_counts() -> None:
    assert offset_of('{"a": 1, "a": 2}', ("a",)) == 14


def test_text_that_is_cut_has_no_places() -> None:
    assert offset_of('{"a": [1, {"b": "lon', ("a", 1, "b")) is None
