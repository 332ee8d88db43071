"""Every shape is known by its fields and becomes an example, and an example's own JSON is read back as itself."""

import json
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhapsode.core.errors import RhapsodeError
from rhapsode.corpus.examples.example import (
    Completion,
    Conversation,
    Example,
    Feedback,
    Messages,
    Preference,
    Text,
    to_value,
)
from rhapsode.corpus.examples.shapes.registry import SHAPES, Numbered, names_of, recognise
from rhapsode.text.chat import Function, Message, ToolCall

USER, YES, NO = (
    Message(role="user", content="2+2?"),
    Message(role="assistant", content="4"),
    Message(role="assistant", content="5"),
)
SYSTEM = Message(role="system", content="Be brief.")
TOOL = {"type": "function", "function": {"name": "add", "description": "Adds."}}
CALL = Message(
    role="assistant",
    content="",
    tool_calls=(ToolCall(id="a", function=Function(name="add", arguments='{"x": 2, "y": 2}')),),
)
RESULT = Message(role="tool", content="4", tool_call_id="a")


def nameless(message: Message) -> Message:
    calls = tuple(call.model_copy(update={"id": None}) for call in message.tool_calls)
    return message.model_copy(update={"tool_calls": calls, "tool_call_id": None})


user, yes, no = ({"role": m.role, "content": m.content} for m in (USER, YES, NO))
human, gpt, bad = ({"from": name, "value": text} for name, text in (("human", "2+2?"), ("gpt", "4"), ("gpt", "5")))
openai_call = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "a", "type": "function", "function": {"name": "add", "arguments": '{"x":2,"y":2}'}}],
}
openai_result = {"role": "tool", "content": "4", "tool_call_id": "a"}

CASES: list[tuple[str, dict[str, Any], Example]] = [
    ("openai", {"messages": [user, yes], "id": 7}, Conversation((USER, YES))),
    ("openai", {"messages": [user, {**yes, "tool_calls": None, "weight": 1}]}, Conversation((USER, YES))),
    ("openai", {"messages": [human, gpt]}, Conversation((USER, YES))),
    (
        "openai",
        {"messages": [{"role": "developer", "content": [{"type": "text", "text": "Be brief."}]}, user, yes]},
        Conversation((SYSTEM, USER, YES)),
    ),
    (
        "openai",
        {"messages": [user, openai_call, openai_result, yes], "tools": [TOOL]},
        Conversation((USER, CALL, RESULT, YES), (TOOL,)),
    ),
    (
        "openai",
        {
            "messages": [
                user,
                {"role": "assistant", "content": None, "function_call": {"name": "add", "arguments": {"x": 2, "y": 2}}},
                {"role": "function", "name": "add", "content": "4"},
                yes,
            ],
            "tools": json.dumps([TOOL["function"]]),
        },
        Conversation(
            (USER, nameless(CALL), nameless(RESULT).model_copy(update={"name": "add"}), YES),
            (TOOL,),
        ),
    ),
    ("completion", {"prompt": "2+2=", "completion": "4", "template": "sum"}, Completion("2+2=", "4")),
    ("completion", {"prompt": [user], "completion": [yes]}, Completion((USER,), (YES,))),
    ("completion", {"prompt": [user], "completion": "4"}, Completion((USER,), (YES,))),
    ("sharegpt", {"conversations": [human, gpt]}, Conversation((USER, YES))),
    ("sharegpt", {"conversations": [human, gpt], "system": "Be brief."}, Conversation((SYSTEM, USER, YES))),
    (
        "sharegpt",
        {
            "conversations": [
                human,
                {"from": "function_call", "value": '{"name": "add", "arguments": {"x": 2, "y": 2}}'},
                {"from": "observation", "value": "4"},
                gpt,
            ],
            "tools": json.dumps([TOOL["function"]]),
        },
        Conversation((USER, nameless(CALL), nameless(RESULT), YES), (TOOL,)),
    ),
    (
        "dialogue",
        {"turns": [{"speaker": "USER", "text": "2+2?", "acts": ["ASK"]}, {"speaker": "SYSTEM", "text": "4"}]},
        Conversation((USER, YES)),
    ),
    ("alpaca", {"instruction": "2+2?", "input": "", "output": "4"}, Conversation((USER, YES))),
    ("alpaca", {"instruction": "2+2?", "response": "4"}, Conversation((USER, YES))),
    (
        "alpaca",
        {"instruction": "Add.", "input": "2 2", "output": "4", "system": "Be brief.", "history": [["2+2?", "4"]]},
        Conversation((SYSTEM, USER, YES, Message(role="user", content="Add.\n2 2"), YES)),
    ),
    ("openai", {"messages": [user, yes], "check": 4}, Conversation((USER, YES), check="4")),
    ("completion", {"prompt": "2+2=", "completion": "4", "check": ["a"]}, Completion("2+2=", "4", check='["a"]')),
    ("completion", {"prompt": [user], "completion": "4", "check": " "}, Completion((USER,), (YES,))),
    ("sharegpt", {"conversations": [human, gpt], "check": "assert é"}, Conversation((USER, YES), check="assert é")),
    ("alpaca", {"instruction": "2+2?", "output": "4", "check": {"a": 1}}, Conversation((USER, YES), check='{"a": 1}')),
    ("preference", {"prompt": "2+2?", "chosen": "4", "rejected": "5"}, Preference((USER,), (YES,), (NO,))),
    ("preference", {"prompt": [user], "chosen": [yes], "rejected": [no]}, Preference((USER,), (YES,), (NO,))),
    ("preference", {"chosen": [user, yes], "rejected": [user, no]}, Preference((USER,), (YES,), (NO,))),
    (
        "preference",
        {"prompt": "2+2?", "chosen": [user, yes], "rejected": [user, no]},
        Preference((USER,), (YES,), (NO,)),
    ),
    ("preference", {"conversations": [human], "chosen": gpt, "rejected": bad}, Preference((USER,), (YES,), (NO,))),
    (
        "preference",
        {
            "chosen": "\n\nHuman: 2+2?\n\nAssistant: 4\n\nHuman: 2+2?\n\nAssistant: 4 ",
            "rejected": "\n\nHuman: 2+2?\n\nAssistant: 4\n\nHuman: 2+2?\n\nAssistant: 5",
        },
        Preference((USER, YES, USER), (YES,), (NO,)),
    ),
    (
        "preference",
        {"prompt": "\n\nHuman: 2+2?\n\nAssistant:", "chosen": "4", "rejected": "5"},
        Preference((USER,), (YES,), (NO,)),
    ),
    ("feedback", {"prompt": "2+2?", "completion": "4", "label": True}, Feedback((USER,), (YES,), label=True)),
    ("feedback", {"prompt": [user], "completion": [no], "label": False}, Feedback((USER,), (NO,), label=False)),
    ("feedback", {"messages": [user, yes], "label": True}, Feedback((USER,), (YES,), label=True)),
    ("feedback", {"conversations": [human, gpt], "label": True}, Feedback((USER,), (YES,), label=True)),
    ("text", {"text": "Sing, goddess."}, Text("Sing, goddess.")),
    ("text", {"text": "Sing, god", "is_cut": True}, Text("Sing, god", is_cut=True)),
]  # fmt: skip


@pytest.mark.parametrize(("shape", "row", "example"), CASES)
def test_a_row_is_known_by_its_fields_and_converted(shape: str, row: dict[str, Any], example: Example) -> None:
    assert names_of(row) == (shape,)
    assert names_of({**row, "tools": None, "system": row.get("system")}) == (shape,)
    assert SHAPES[shape].convert(row) == example


texts = st.text(st.characters(codec="utf-8"), max_size=8)
names = st.text(string.ascii_lowercase, min_size=1, max_size=5)
calls = st.builds(
    ToolCall,
    id=st.none() | names,
    function=st.builds(
        Function, name=names, arguments=st.dictionaries(texts, texts | st.integers(), max_size=2).map(json.dumps)
    ),
)
said = st.one_of(
    st.builds(Message, role=st.sampled_from(["system", "user", "assistant"]), content=texts),
    st.builds(
        Message, role=st.just("assistant"), content=texts, tool_calls=st.lists(calls, min_size=1, max_size=2).map(tuple)
    ),
    st.builds(Message, role=st.just("tool"), content=texts, tool_call_id=st.none() | names, name=st.none() | names),
)
talks: st.SearchStrategy[Messages] = st.lists(said, min_size=1, max_size=4).map(tuple)
answers: st.SearchStrategy[Messages] = st.builds(Message, role=st.just("assistant"), content=texts).map(lambda m: (m,))
tools = st.lists(
    st.builds(lambda name, text: {"type": "function", "function": {"name": name, "description": text}}, names, texts),
    max_size=2,
).map(tuple)
examples: st.SearchStrategy[Example] = st.one_of(
    st.builds(Conversation, talks, tools),
    st.builds(Completion, texts, texts),
    st.builds(Completion, talks, talks, tools),
    st.builds(Preference, talks, answers, answers, tools),
    st.builds(Feedback, talks, answers, st.booleans(), tools),
    st.builds(Text, texts),
)  # fmt: skip


@given(examples)
def test_an_example_comes_back_from_its_own_json(example: Example) -> None:
    value = json.loads(json.dumps(to_value(example), ensure_ascii=False))
    (name,) = names_of(value)
    assert SHAPES[name].convert(value) == example
    assert to_value(SHAPES[name].convert(value)) == value


def test_rows_of_one_shape_are_recognised() -> None:
    for name, row, _ in CASES:
        assert recognise([Numbered(1, row), Numbered(2, row)], file="a.jsonl").name == name


def test_a_mixed_file_is_refused_and_each_row_named() -> None:
    talk, text = {"messages": [user, yes]}, {"text": "a"}
    rows = [Numbered(number, talk) for number in range(1, 6)] + [Numbered(9, text)]
    expected = "a.jsonl is mixed: rows 1, 2, 3 and 2 more look like openai, row 9 looks like text"
    with pytest.raises(RhapsodeError, match=expected) as caught:
        recognise(rows, file="a.jsonl")
    assert "split it" in caught.value.hint


def test_a_row_of_two_shapes_is_refused() -> None:
    row = {"messages": [user, yes], "text": "2+2? 4"}
    with pytest.raises(RhapsodeError, match=r"row 1 looks like openai and like text") as caught:
        recognise([Numbered(1, row)], file="a.jsonl")
    assert caught.value.hint == "say which shape to read: openai or text"


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"question": "a", "answer": "b"}, "has the fields question, answer"),
        ({"text": "a", "label": "spam"}, "has the fields text, label"),
        ({}, "has no fields"),
        ("hello", "is no object"),
        (None, "is no object"),
    ],
)
def test_a_row_of_no_shape_is_refused_with_what_it_has(row: object, says: str) -> None:
    with pytest.raises(RhapsodeError, match=f"row 3 looks like no shape that is known: it {says}") as caught:
        recognise([Numbered(3, row)], file="a.jsonl")
    assert all(shape.name in caught.value.hint for shape in SHAPES.values())
