"""Repair: what must change and what must not."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhapsode.corpus.normalise import encodable, repair

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@pytest.mark.parametrize(
    ("damaged", "whole"),
    [
        ("a\r\nb\rc\u2028d", "a\nb\nc\nd"),
        ("voilÃ\xa0 lâ€™Ã©tÃ©", "voilà l’été"),
        ("first line\nschÃ¶n â€“ ja\nlast line", "first line\nschön – ja\nlast line"),
        ("cafe\u0301", "café"),
        ("\ufeffde\ufb01ne", "define"),
        ("red \x1b[31mtext\x1b[0m\x07", "red text"),
        ("it\x92s", "it’s"),
    ],
)
def test_prose_is_put_right(damaged: str, whole: str) -> None:
    assert repair(damaged, kind="prose") == whole


@pytest.mark.parametrize(
    "text",
    [
        "“Curly quotes” — and dashes… stay",
        "&lt;b&gt; &amp;amp; stays, as does ＡＢＣ",
        "Größe, naïve, Ελληνικά, Русский, हिन्दी, 日本語, 한국어, ไทย",
        "A CONSTITUIÇÃO DA NAÇÃO: SÃO JOÃO, NÃO; l'âme, le goût",
        "👩‍👩‍👧 zero-width joiners hold a family together",
        "tabs\tand\fform feeds\n",
    ],
)
def test_what_an_author_meant_stays(text: str) -> None:
    assert repair(text, kind="prose") == text


@given(TEXT)
def test_code_changes_only_in_its_mark_and_its_line_ends(text: str) -> None:
    assert repair(text, kind="code") == text.removeprefix("\ufeff").replace("\r\n", "\n")


@given(TEXT)
def test_prose_comes_out_normal_and_without_controls(text: str) -> None:
    repaired = repair(text, kind="prose")
    assert unicodedata.is_normalized("NFC", repaired)
    assert not any(unicodedata.category(c) == "Cc" for c in repaired if c not in "\n\t\f")


@given(st.text("abc \n\x80\x99éÃ©â€™“", max_size=60))
def test_a_line_is_repaired_the_same_in_any_company(text: str) -> None:
    alone = [repair(line, kind="prose") for line in text.split("\n")]
    assert repair(text, kind="prose") == "\n".join(alone)


@given(st.text())
def test_any_text_can_be_written(text: str) -> None:
    assert encodable(text).encode().decode() == encodable(text)


def test_surrogates_are_joined_or_replaced() -> None:
    assert encodable("\ud83d\ude00 \ud800!") == "😀 \ufffd!"
