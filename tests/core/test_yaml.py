import contextlib
import math

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from rhapsode.core.errors import RecipeError
from rhapsode.core.yaml import format_key, parse_key, read_value, read_yaml, scalar, write_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1.", 1.0),
        (".5", 0.5),
        ("6.02E23", 6.02e23),
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("off", "off"),
        ("true", True),
        ("false", False),
        ("010", 10),
        ("0o17", 15),
        ("0xff", 255),
        ("1:30", "1:30"),
        ("1:30:00", "1:30:00"),
        ("2024-01-31", "2024-01-31"),
        ("1_000", "1_000"),
        ("null", None),
        ("~", None),
        ("", None),
        ("-.inf", -math.inf),
        ("5m", "5m"),
        ("0b1", "0b1"),
        ("=", "="),
    ],
)
def test_scalars_mean_what_they_show(text, value):
    assert scalar(text) == value
    assert type(scalar(text)) is type(value)
    assert read_yaml(f"key: {text}", name="x").value == {"key": value}


def test_quoted_scalars_are_text():
    assert read_yaml("""a: "1"\nb: 'true'\nc: |\n  7\n""", name="x").value == {"a": "1", "b": "true", "c": "7\n"}


def test_keys_are_text():
    assert read_yaml("no: 1\n2: 3\n", name="x").value == {"no": 1, "2": 3}


def test_every_key_and_value_has_its_line():
    text = "a:\n  b: 1\n  list:\n  - x: 2\n    y:\n      3\n"
    places = read_yaml(text, name="r.yaml").places
    assert places["a", "b"].key == "r.yaml:2"
    assert places["a", "list"] == ("r.yaml:3", "r.yaml:4")
    assert places["a", "list", 0, "y"] == ("r.yaml:5", "r.yaml:6")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "r.yaml:3: a: key given twice; the first is at r.yaml:1"),
        ("a:\n  b: 1\n  b: 2\n", "r.yaml:3: a.b: key given twice; the first is at r.yaml:2"),
        ("a: &x 1\nb: *x\n", "r.yaml:1: anchors and aliases (& and *) are not supported"),
        ("a:\n  <<: {b: 1}\n", "r.yaml:2: a.<<: merge keys are not supported; write the keys out"),
        ("a: !!python/object:os.system x\n", "r.yaml:1: tags (tag:yaml.org,2002:python/object:os.system) are not"),
        ("a: {[1, 2]: 3}\n", "r.yaml:1: a key must be plain text"),
        ("a: 1\n---\nb: 2\n", "r.yaml:2: expected a single document in the stream"),
        ("a: [1, 2\n", "r.yaml:2: while parsing a flow sequence"),
        ("a:\n\tb: 1\n", "r.yaml:2: "),
        ("a: 1\nb: \x07\n", "r.yaml:2: character"),
        ('a: "\\ud800"\n', "r.yaml:1: a: half of a surrogate pair is not text"),
        ("a: " + "[" * 60 + "]" * 60, "r.yaml:1: values are nested deeper than 50 levels"),
    ],
)
def test_what_would_surprise_is_refused_with_its_line(text, message):
    with pytest.raises(RecipeError) as error:
        read_yaml(text, name="r.yaml")
    assert error.value.message.startswith(message)


def test_all_duplicates_are_listed():
    with pytest.raises(RecipeError) as error:
        read_yaml("a: 1\na: 2\nb: 1\nb: 2\n", name="x")
    assert len(error.value.message.splitlines()) == 2


@given(st.text(max_size=200))
@example("#")
def test_any_text_is_read_or_refused(text):
    with contextlib.suppress(RecipeError):
        assert () in read_yaml(text, name="x").places


_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.from_regex(r"[-+0-9a-z_.:~=<!&*{}\[\]%@`#| \n]{0,12}", fullmatch=True),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
    ),
    max_leaves=12,
)


@given(_values)
def test_what_is_written_reads_back(value):
    assert read_yaml(write_yaml({"value": value}), name="x").value == {"value": value}


@given(_values)
def test_other_readers_understand_what_is_written(value):
    assert yaml.safe_load(write_yaml({"value": value})) == {"value": value}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        (" no ", "no"),
        ("[1, no, {a: 2}]", [1, "no", {"a": 2}]),
        ("'1'", "1"),
        ("Answer: yes", "Answer: yes"),
        ("# not a comment", "# not a comment"),
        ("", None),
    ],
)
def test_values_of_the_command_line(text, value):
    assert read_value(text, name="--set") == value


@given(
    st.lists(st.from_regex(r"[^.\[\]]+", fullmatch=True) | st.integers(0, 999), min_size=1).filter(
        lambda key: isinstance(key[0], str)
    )
)
def test_keys_are_written_and_read(key):
    assert parse_key(format_key(tuple(key))) == tuple(key)


@pytest.mark.parametrize("text", ["", ".a", "a.", "a..b", "[0]", "a[x]", "a[0", "a[-1]", "a[0]b"])
def test_keys_that_are_none(text):
    with pytest.raises(ValueError):
        parse_key(text)
