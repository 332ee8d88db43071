"""Examples as questions: what stands before the last answer in words is asked, and that is wanted."""

import json
from pathlib import Path

import pytest

from rhapsode.core.errors import RhapsodeError
from rhapsode.core.events import Event, Events
from rhapsode.corpus.config import DataConfig
from rhapsode.corpus.examples.example import Completion, Conversation, Feedback, Preference, Text
from rhapsode.corpus.examples.prepare import prepare_examples
from rhapsode.evaluate.items import Item, call_items, draw, item_of, items_of
from rhapsode.text.chat import Function, Message, ToolCall

ASK, REPLY = Message(role="user", content="How much?"), Message(role="assistant", content="Ten.")
SYSTEM = Message(role="system", content="Be brief.")
CALL = Message(role="assistant", content="", tool_calls=(ToolCall(function=Function(name="price", arguments="{}")),))
RESULT = Message(role="tool", content="10")
TOOLS = ({"type": "function", "function": {"name": "price"}},)


@pytest.mark.parametrize(
    ("example", "prompt", "wanted"),
    [
        (Completion("2 + 2 =", " 4"), "2 + 2 =", " 4"),
        (Completion((SYSTEM, ASK), (REPLY,)), (SYSTEM, ASK), "Ten."),
        (Conversation((SYSTEM, ASK, REPLY, ASK, REPLY)), (SYSTEM, ASK, REPLY, ASK), "Ten."),
        (Conversation((ASK, CALL, RESULT, REPLY), TOOLS), (ASK, CALL, RESULT), "Ten."),
        (Conversation((ASK, REPLY, ASK, CALL), TOOLS), (ASK,), "Ten."),
        (Preference((ASK,), (REPLY,), (Message(role="assistant", content="No."),)), (ASK,), "Ten."),
        (Feedback((ASK,), (REPLY,), label=True), (ASK,), "Ten."),
    ],
)
def test_the_last_answer_in_words_is_wanted(example, prompt, wanted):
    found = item_of(example, name="x")
    assert found is not None
    assert (found.id, found.prompt, found.wanted) == ("x", prompt, wanted)
    assert found.tools == getattr(example, "tools", ())
    assert (found.check, found.calls) == ("", ())


@pytest.mark.parametrize(
    "example", [Text("words"), Feedback((ASK,), (REPLY,), label=False), Conversation((ASK, CALL, RESULT), TOOLS)]
)
def test_what_asks_for_no_words_is_no_item(example):
    assert item_of(example, name="x") is None


def test_a_rows_check_stands_beside_its_answer():
    for example in (Completion("2 + 2 =", " 4", check="4"), Conversation((ASK, REPLY), check="4")):
        assert item_of(example, name="x").check == "4"


@pytest.mark.parametrize(
    ("example", "prompts"),
    [
        (Conversation((ASK, CALL, RESULT, CALL, RESULT, REPLY), TOOLS), [(ASK,), (ASK, CALL, RESULT)]),
        (Completion((ASK, CALL, RESULT), (CALL, RESULT, REPLY), TOOLS), [(ASK, CALL, RESULT)]),
        (Preference((ASK,), (CALL,), (REPLY,), TOOLS), [(ASK,)]),
        (Feedback((ASK,), (CALL,), label=True, tools=TOOLS), [(ASK,)]),
        (Feedback((ASK,), (CALL,), label=False, tools=TOOLS), []),
        (Completion("a", "b"), []),
        (Text("words"), []),
    ],
)
def test_every_answer_that_calls_a_tool_is_an_item_where_calls_are_judged(example, prompts):
    found = call_items(example, name="x")
    assert [item.prompt for item in found] == prompts
    wanted = '<tool_call>\n{"name": "price", "arguments": {}}\n</tool_call>'
    assert all(
        (item.wanted, item.calls, item.tools) == (wanted, (CALL.tool_calls[0].function,), TOOLS) for item in found
    )
    assert len({item.id for item in found}) == len(found)


def test_prompts_that_differ_in_case_alone_are_one_group():
    groups = [item_of(Completion(prompt, " 4"), name="x").group for prompt in ("Two plus two?", "two plus two", "two")]
    assert groups[0] == groups[1] != groups[2]


def test_what_a_field_keeps_together_is_one_group(tmp_path: Path) -> None:
    rows = [{"prompt": f"{n} + {n * 7} =", "completion": f" {n * 8}", "who": f"p{n % 3}"} for n in range(12)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = DataConfig.model_validate(
        {"examples": [{"path": "rows.jsonl"}], "split": {"group": "who", "validation": 0.4}}
    )
    corpus = prepare_examples(config, root=tmp_path / "corpora", base=tmp_path, events=Events())
    items = [item for side in ("train", "validation") for item in items_of(corpus, split=side, events=Events())]
    assert len(items) == 12
    assert len({item.group for item in items}) == 3


def test_a_corpus_of_examples_becomes_items_and_the_rest_is_told(tmp_path: Path) -> None:
    rows = [{"prompt": f"{n} + 1 =", "completion": f" {n + 1}"} for n in range(40)]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "notes.jsonl").write_text("".join(json.dumps({"text": f"note number {n}"}) + "\n" for n in range(20)))
    data = {"examples": [{"path": "sums.jsonl"}, {"path": "notes.jsonl"}], "split": {"validation": 0.4}}
    corpus = prepare_examples(
        DataConfig.model_validate(data), root=tmp_path / "corpora", base=tmp_path, events=Events()
    )
    heard: list[Event] = []
    found = {split: items_of(corpus, split=split, events=Events(heard.append)) for split in ("train", "validation")}
    assert sorted(item.wanted for items in found.values() for item in items) == sorted(
        row["completion"] for row in rows
    )
    assert {item.prompt for item in found["train"]}.isdisjoint(item.prompt for item in found["validation"])
    assert sum(event.fields["left_out"] for event in heard) == 20
    data["examples"] = data["examples"][1:]
    notes = prepare_examples(DataConfig.model_validate(data), root=tmp_path / "corpora", base=tmp_path, events=Events())
    with pytest.raises(RhapsodeError, match="asks for an answer in words"):
        items_of(notes, split="train", events=Events())


def test_a_draw_depends_on_names_alone():
    items = [Item(f"i{n}", f"g{n}", "x", "y") for n in range(30)]
    some = draw(items, most=10, seed=0)
    assert len(some) == 10
    assert {item.id for item in draw(items[::-1], most=10, seed=0)} == {item.id for item in some}
    assert {item.id for item in some} < {item.id for item in draw(items, most=20, seed=0)}
    assert some != draw(items, most=10, seed=1)
    assert draw(items, most=None, seed=0) == items
