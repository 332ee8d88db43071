import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from rhapsode.core import units
from rhapsode.core.config import Bytes, Config, Count, Share
from rhapsode.core.units import MiB, format_bytes, format_count, format_seconds, parse_bytes, parse_count, parse_share


class Example(Config):
    count: Count = Field(default=5000, ge=1, description="A count.")
    size: Bytes = Field(default=64 * MiB, description="A size.")
    share: Share = Field(default=0.05, description="A share.")
    optional: Count | None = Field(default=None, description="A count or nothing.")
    switch: bool = Field(default=False, description="A switch.")
    rate: float = Field(default=0.1, description="A rate.")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5m", 5_000_000),
        ("64k", 64_000),
        ("64K", 64_000),
        ("1.5b", 1_500_000_000),
        ("4Ki", 4096),
        ("1_000", 1000),
        ("1e6", 1_000_000),
        (1e6, 1_000_000),
        (5000, 5000),
        (0, 0),
    ],
)
def test_counts_read_as_people_write_them(text, value):
    assert parse_count(text) == value
    assert type(parse_count(text)) is int


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("10 MB", 10**7),
        ("10MB", 10**7),
        ("64 KiB", 65536),
        ("0.1 GB", 10**8),
        ("1 gib", 2**30),
        ("7 B", 7),
        ("1.5 kB", 1500),
        (4096, 4096),
    ],
)
def test_sizes_read_as_people_write_them(text, value):
    assert parse_bytes(text) == value


@pytest.mark.parametrize(
    ("text", "value"), [("5%", 0.05), ("0.1 %", 0.001), ("100%", 1.0), (0.05, 0.05), ("0.25", 0.25), (1, 1.0)]
)
def test_shares_read_as_people_write_them(text, value):
    assert parse_share(text) == value
    assert type(parse_share(text)) is float


@pytest.mark.parametrize(
    ("parse", "text", "message"),
    [
        (parse_bytes, "10 parsecs", "'10 parsecs': unknown unit 'parsecs'; use B, kB, MB, GB, KiB, MiB, GiB"),
        (parse_count, "10 MB", "'10 MB': unknown unit 'MB'; use k, m, b, t, Ki, Mi"),
        (parse_share, "5 MB", "'5 MB': unknown unit 'MB'; use % or a plain number from 0 to 1"),
        (parse_share, "120%", "'120%' is not from 0 to 1 (0% to 100%)"),
        (parse_share, -0.1, "-0.1 is not from 0 to 1 (0% to 100%)"),
        (parse_count, "many", "'many' is not a number; write for example 64k, 5m, 5000"),
        (parse_count, True, "True is not a number; write for example 64k, 5m, 5000"),
        (parse_count, None, "None is not a number; write for example 64k, 5m, 5000"),
        (parse_count, float("nan"), "nan is not a number; write for example 64k, 5m, 5000"),
        (parse_share, float("inf"), "inf is not a number; write for example 5%, 0.05"),
        (parse_count, -3, "-3 is negative"),
        (parse_count, 1.5, "1.5 is not a whole number"),
        (parse_bytes, "1.5 B", "'1.5 B' is not a whole number"),
        (parse_count, "1e999999999", "'1e999999999' is too large"),
        (parse_count, 2**63, "9223372036854775808 is too large"),
        (parse_share, "1e999999999", "'1e999999999' is not from 0 to 1 (0% to 100%)"),
    ],
)
def test_what_is_refused_says_why(parse, text, message):
    with pytest.raises(ValueError) as error:
        parse(text)
    assert str(error.value) == message


@given(st.integers(0, units.LARGEST))
def test_plain_counts_are_exact(number):
    assert parse_count(number) == parse_count(str(number)) == number


@given(st.decimals(0, 1000, places=3), st.sampled_from(["kB", "MB", "GB"]))
def test_sizes_are_exact(number, unit):
    assert parse_bytes(f"{number} {unit}") == int(number * units.SIZES.units[unit])


@given(st.text())
def test_any_text_is_read_or_refused(text):
    for parse in (parse_count, parse_bytes, parse_share):
        with contextlib.suppress(ValueError):
            assert parse(text) >= 0


def test_fields_read_units_and_keep_their_limits():
    assert Example.model_validate({"count": "5m", "size": "10 MB", "share": "5%", "optional": "64k"}) == Example(
        count=5_000_000, size=10**7, share=0.05, optional=64_000
    )
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        Example.model_validate({"count": 0})


@pytest.mark.parametrize(
    "data", [{"unknown": 1}, {"switch": 1}, {"switch": "true"}, {"rate": "0.1"}, {"rate": float("nan")}, {"rate": True}]
)
def test_configurations_are_strict(data):
    with pytest.raises(ValidationError):
        Example.model_validate(data)


def test_configurations_do_not_change():
    with pytest.raises(ValidationError, match="frozen"):
        Example().count = 3


def test_defaults_are_checked():
    class Wrong(Config):
        share: Share = Field(default=5.0, description="Not a share.")

    with pytest.raises(ValidationError, match="not from 0 to 1"):
        Wrong()


def test_schema_offers_numbers_and_units():
    properties = Example.model_json_schema()["properties"]
    assert properties["size"]["type"] == ["integer", "string"]
    assert "10 MB" in properties["size"]["examples"]
    assert properties["count"]["minimum"] == 1
    assert properties["share"]["maximum"] == 1
    json.dumps(properties)


@pytest.mark.parametrize("name", ["count", "size", "share"])
def test_examples_in_the_schema_are_valid(name):
    shape = Example.model_json_schema()["properties"][name]
    for example in shape["examples"]:
        Example.model_validate({name: example})


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (format_count(999), "999"),
        (format_count(12_345_678), "12.3m"),
        (format_bytes(0), "0 B"),
        (format_bytes(12_345_678), "12.3 MB"),
        (format_seconds(0.0123), "12 ms"),
        (format_seconds(3.21), "3.2 s"),
        (format_seconds(59.97), "1 min 0 s"),
        (format_seconds(75), "1 min 15 s"),
        (format_seconds(7260), "2 h 1 min"),
    ],
)
def test_numbers_are_shown_as_people_write_them(text, shown):
    assert text == shown
