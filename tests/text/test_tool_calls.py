"""Calls that a template writes are read again, whatever the pieces in which an answer comes."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhapsode.text.chat import Function, Message, ToolCall
from rhapsode.text.chatml import spoken
from rhapsode.text.templates import GEMMA
from rhapsode.text.tokenizer import Tokenizer, train_tokenizer
from rhapsode.text.tool_calls import CallStream, Said, opening, read_calls, require_calls, writes_calls

WORDS = st.text(st.characters(codec="utf-8", exclude_characters="<")).map(str.strip)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | WORDS,
    lambda part: st.lists(part) | st.dictionaries(WORDS, part),
    max_leaves=5,
)
CALLS = st.builds(
    lambda name, values: Function(name=name, arguments=json.dumps(values)),
    WORDS.filter(bool),
    st.dictionaries(WORDS, VALUES, max_size=3),
)


@given(WORDS, st.lists(CALLS, max_size=3), st.lists(st.integers(1, 12)))
def test_what_is_written_is_read_in_any_pieces(content: str, calls: list[Function], sizes: list[int]) -> None:
    said = Message(role="assistant", content=content, tool_calls=tuple(ToolCall(function=call) for call in calls))
    text = spoken(said)
    assert read_calls(text) == Said(content, tuple(calls))
    stream, parts, start = CallStream(), [], 0
    for size in [*sizes, len(text)]:
        parts += stream.push(text[start : start + size])
        start += size
    parts += stream.finish()
    assert "".join(part for part in parts if isinstance(part, str)) == content
    assert [part for part in parts if isinstance(part, Function)] == calls


@given(st.lists(st.sampled_from(["<tool_call>", "</tool_call>", '{"name": "f"}', " ", "\n", "<tool", "a", "{}"])))
def test_text_that_calls_nothing_stays_as_it_is(pieces: list[str]) -> None:
    assert read_calls("".join(pieces)) == Said("".join(pieces), ())


@pytest.mark.parametrize(
    "inside",
    ["", "[]", '{"name": "f"}', '{"name": 3, "arguments": {}}', '{"name": "f", "arguments": "{}"}',
     '{"name": "f", "arguments": {}, "id": 1}', '{"name": "f", "arguments": {"x": NaN}}', "[" * 5000],
)  # fmt: skip
def test_a_block_that_is_no_call_is_text(inside: str) -> None:
    text = f"So: <tool_call>\n{inside}\n</tool_call>"
    assert read_calls(text) == Said(text, ())


def test_words_come_as_soon_as_no_call_can_begin_there() -> None:
    stream = CallStream()
    assert stream.push("a <b") == ["a <b"]
    assert stream.push(" <tool") == []
    assert stream.push("s>") == [" <tools>"]
    assert stream.push('\n<tool_call>{"name": "f", "arguments": {}}') == []
    assert stream.push("</tool_call>\n") == [Function(name="f", arguments="{}")]
    assert stream.finish() == []


def test_an_answer_that_must_call_begins_as_every_call_does() -> None:
    written = spoken(
        Message(role="assistant", content="", tool_calls=(ToolCall(function=Function(name='s"', arguments="{}")),))
    )
    assert written.startswith(opening(None))
    assert written.startswith(opening('s"'))


def with_template(template: str) -> Tokenizer:
    made = train_tokenizer(["the cat sat"] * 3, vocab_size=300)
    return Tokenizer(made._source.decode(), names=made.names, chat_template=template)


def test_templates_whose_calls_are_read_are_known_by_what_they_write() -> None:
    ours = train_tokenizer(["the cat sat"] * 3, vocab_size=300)
    assert writes_calls(ours)
    assert writes_calls(with_template(GEMMA))
    other = ours.chat_template.replace("<tool_call>", "[TOOL_CALLS]")
    assert not writes_calls(with_template(other))
    assert not writes_calls(with_template("{{ messages[0]['content'] }}"))
    assert not writes_calls(with_template(""))
    with pytest.raises(Exception, match="is not read here"):
        require_calls(with_template(other))
