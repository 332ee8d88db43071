"""Bytes to text."""

import codecs
import contextlib

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rhapsode.corpus.encoding import decode, sniff
from rhapsode.corpus.readers.record import ReadError

GERMAN = "Übrigens: die Straße, über die wir gingen, führte an größeren Häusern vorbei. " * 4
RUSSIAN = "Все счастливые семьи похожи друг на друга, каждая несчастливая семья несчастлива по-своему. " * 4
JAPANESE = "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。" * 4


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_utf8_comes_back(text: str) -> None:
    assume(not text.startswith(("%PDF-", "\x7fELF", "PK\x03\x04")))
    assert decode(text.encode(), name="a.txt").text == text.removeprefix("\ufeff")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_decides(encoding: str) -> None:
    assert decode(GERMAN.encode(encoding), name="a.txt").text == GERMAN


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf16_without_a_mark(encoding: str) -> None:
    assert decode(GERMAN.encode(encoding), name="a.txt") == (GERMAN, encoding)


@pytest.mark.parametrize(
    ("text", "encoding"),
    [(GERMAN, "latin-1"), (GERMAN, "cp1252"), (RUSSIAN, "cp1251"), (RUSSIAN, "koi8-r"), (JAPANESE, "shift_jis")],
)
def test_older_encodings_are_found(text: str, encoding: str) -> None:
    decoded = decode(text.encode(encoding), name="a.txt")
    assert decoded.text == text
    assert decoded.encoding != "utf-8"


@pytest.mark.parametrize(
    ("head", "name", "encoding"),
    [
        ("# -*- coding: {} -*-\n", "a.py", "iso8859-5"),
        ("#!/usr/bin/python\n# vim: set fileencoding={} :\n", "a.py", "cp1251"),
        ('<html><head><meta charset="{}"></head>', "a.html", "koi8-r"),
        ('<?xml version="1.0" encoding="{}"?>', "a.xml", "koi8-r"),
    ],
)
def test_a_file_may_declare_its_encoding(head: str, name: str, encoding: str) -> None:
    text = head.format(encoding) + RUSSIAN
    assert decode(text.encode(encoding), name=name).text == text


def test_a_declaration_of_nonsense_is_not_believed() -> None:
    text = "# coding: nonsense\n" + GERMAN
    assert decode(text.encode("latin-1"), name="a.py").text == text


def test_a_few_damaged_bytes_do_not_turn_utf8_into_something_else() -> None:
    data = GERMAN.encode() + b"\xff" + GERMAN.encode()
    decoded = decode(data, name="a.txt")
    assert decoded.text == GERMAN + "\ufffd" + GERMAN
    assert decoded.encoding == "utf-8, damaged"


@pytest.mark.parametrize("data", [b"abc\0def", b"%PDF-1.7 \xe2\xe3", b"\x7fELF\x02\x01\x01", bytes(range(256)) * 9])
def test_binary_is_refused(data: bytes) -> None:
    with pytest.raises(ReadError) as caught:
        decode(data, name="a.txt")
    assert caught.value.reason == "binary"


@given(st.binary(max_size=300))
def test_any_bytes_are_text_or_refused(data: bytes) -> None:
    """Neither another error nor a text of another kind."""
    with contextlib.suppress(ReadError):
        assert isinstance(decode(data, name="a.py").text, str)


def test_a_beginning_may_end_inside_a_character() -> None:
    assert sniff("é".encode()[:1], name="a.csv") == "utf-8"
    assert sniff(codecs.BOM_UTF16_LE + "é".encode("utf-16-le"), name="a.csv") == "utf-16"
