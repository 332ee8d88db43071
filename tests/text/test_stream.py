"""Streamed text is the text, and no reader sees half a character."""

from hypothesis import given
from hypothesis import strategies as st

from rhapsode.text.stream import TextStream
from rhapsode.text.tokenizer import Tokenizer


@given(st.lists(st.integers(0, 999), max_size=40))
def test_the_parts_joined_are_the_decoded_whole(tokenizer: Tokenizer, ids: list[int]) -> None:
    stream = TextStream(tokenizer)
    assert "".join(stream.push(token) for token in ids) + stream.finish() == tokenizer.decode(ids)


@given(st.text())
def test_every_part_is_text_that_stays(tokenizer: Tokenizer, text: str) -> None:
    stream = TextStream(tokenizer)
    seen = ""
    for byte in text.encode():
        seen += stream.push(tokenizer.encode(bytes([byte]))[0])
        assert text.startswith(seen)
    assert seen == text
    assert stream.finish() == ""


def test_a_character_cut_short_is_told_at_the_end(tokenizer: Tokenizer) -> None:
    stream = TextStream(tokenizer)
    ids = tokenizer.encode("ja 🎶".encode()[:-1])
    assert "".join(map(stream.push, ids)) == "ja "
    assert stream.finish() == "\ufffd"
    assert stream.push(tokenizer.encode("a")[0]) == "a"
