"""A file is looked at whole: each fault with its line, column and mend, nothing dropped in silence."""

import csv
import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from rhapsode.core.errors import RhapsodeError
from rhapsode.corpus.examples import fault
from rhapsode.corpus.examples.example import Completion, Conversation, Feedback, to_value
from rhapsode.corpus.examples.validate import SHOWN, validate

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".zst": lambda data: zstandard.ZstdCompressor().compress(data),
}
TOOLS = [{"type": "function", "function": {"name": "add"}}]
Row = dict[str, Any]


def user(text: str = "2+2?") -> Row:
    return {"role": "user", "content": text}


def said(text: str = "4") -> Row:
    return {"role": "assistant", "content": text}


def called(name: str = "add", arguments: Any = "{}", identity: str = "a") -> Row:
    function = {"name": name, "arguments": arguments}
    return {"role": "assistant", "content": None, "tool_calls": [{"id": identity, "function": function}]}


def result(identity: str | None = "a") -> Row:
    return {"role": "tool", "content": "4", **({"tool_call_id": identity} if identity else {})}


def talk(*messages: Row, **more: Any) -> Row:
    return {"messages": list(messages), **more}


GOOD = talk(user(), said())


def write(path: Path, *rows: Row | str) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("suffix", COMPRESS)
def test_a_good_file_gives_its_examples_as_often_as_asked(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.jsonl{suffix}"
    rows = [talk(user(str(number)), said(), id=number) for number in range(300)]
    path.write_bytes(COMPRESS[suffix]("\n".join(map(json.dumps, rows)).encode()))
    found = validate(path)
    assert (found.shape, found.num_rows, found.num_examples) == ("openai", 300, 300)
    assert found.unread == {"id": 300}
    for _ in range(2):
        examples = list(found.examples())
        assert [number for number, _ in examples] == list(range(1, 301))
        assert [to_value(example)["messages"] for _, example in examples] == [row["messages"] for row in rows]
    assert found.unread == {"id": 300}


# What is wrong, the fault's kind, where it stands (the text at its column), its key, and what the mend says.
FAULTS: list[tuple[Row, str, str, str, str]] = [
    (talk(user(), {"role": "bot", "content": "4"}), fault.UNKNOWN_ROLE, '"bot"', "messages[1].role", "say assistant"),
    (talk(user(), {"role": "?", "content": "4"}), fault.UNKNOWN_ROLE, '"?"', "messages[1].role", "say one of"),
    (talk(user(), {"role": "assistant"}), fault.MISSING, '{"role": "assistant"}', "messages[1].content", "be text"),
    (talk(user(), {"role": 3, "content": "4"}), fault.WRONG_TYPE, "3", "messages[1].role", "write text"),
    (talk(user(), {"role": "assistant", "content": 4}), fault.WRONG_TYPE, "4}", "messages[1].content", "write text"),
    (talk(user(), "4"), fault.WRONG_TYPE, '"4"', "messages[1]", "an object with role and content"),
    (talk(), fault.NO_TURNS, "[]", "messages", "at least one message"),
    (talk(user(), said("")), fault.EMPTY_ANSWER, '""', "messages[1].content", "write the answer"),
    (talk(user(), said(" \n")), fault.EMPTY_ANSWER, '" \\n"', "messages[1].content", "write the answer"),
    (talk(user(""), said()), fault.EMPTY_MESSAGE, '""', "messages[0].content", "leave it out"),
    (talk(user()), fault.NO_ANSWER, "[{", "messages", "add a message of the assistant"),
    (talk(user(), user("b"), said()), fault.TWICE_IN_A_ROW, '"user", "content": "b"', "messages[1].role", "join them"),
    (talk(user(), said(), said("b")), fault.TWICE_IN_A_ROW, '"assistant", "content": "b"', "messages[2].role", "join"),
    (
        talk(user(), {"role": "system", "content": "x"}, said()),
        fault.LATE_SYSTEM,
        '"system"',
        "messages[1].role",
        "move it to the front",
    ),
    (talk(user(), result(), said()), fault.RESULT_WITHOUT_CALL, '"tool"', "messages[1].role", "behind the assistant"),
    (
        talk(user(), called(), result("b"), said(), tools=TOOLS),
        fault.RESULT_WITHOUT_CALL,
        '"b"',
        "messages[2].tool_call_id",
        "say 'a'",
    ),
    (
        talk(user(), called(), user("b"), tools=TOOLS),
        fault.CALL_WITHOUT_RESULT,
        '"assistant"',
        "messages[1].role",
        "add the message of the tool",
    ),
    (
        talk(user(), called(arguments='{"x": 1'), tools=TOOLS),
        fault.BAD_ARGUMENTS,
        '"{\\"x\\": 1"',
        "messages[1].tool_calls[0].function.arguments",
        "write an object as JSON text",
    ),
    (
        talk(user(), called(arguments=[1]), tools=TOOLS),
        fault.BAD_ARGUMENTS,
        "[1]",
        "messages[1].tool_calls[0].function.arguments",
        "write an object",
    ),
    (
        talk(user(), called("mul"), tools=TOOLS),
        fault.UNLISTED_TOOL,
        '"mul"',
        "messages[1].tool_calls[0].function.name",
        "the tools are add",
    ),
    (talk(user(), called()), fault.UNLISTED_TOOL, '"add"', "messages[1].tool_calls[0].function.name", "add the field"),
    (talk(user(), said(), tools=[3]), fault.BAD_TOOL, "3", "tools[0]", '"type": "function"'),
    (talk(user(), said(), tools="[{"), fault.BAD_ARGUMENTS, '"[{"', "tools", "write JSON"),
    (talk(user("a\x07b"), said()), fault.BAD_CHARACTER, '"a\\u0007b"', "messages[0].content", "remove it"),
    (talk(user("a\ud83db"), said()), fault.HALF_CHARACTER, '"a\\ud83db"', "messages[0].content", "half of a character"),
    (
        talk(user(), {**said(), "weight": 0}),
        fault.WEIGHTED,
        "0",
        "messages[1].weight",
        "prompt and completion",
    ),
    (
        talk({**user(), "content": [{"type": "image_url", "image_url": {}}]}, said()),
        fault.WRONG_TYPE,
        '{"type": "image_url"',
        "messages[0].content[0]",
        "only text",
    ),
    ({"text": "x"}, fault.OTHER_SHAPE, "{", "", "a file of its own"),
    ({"conversations": [user(), said()]}, fault.OTHER_SHAPE, "{", "", "a file of its own"),
    ({"id": 3}, fault.MISSING, "{", "messages", "a list of messages"),
]  # fmt: skip


@pytest.mark.parametrize(("row", "kind", "at", "key", "mend"), FAULTS)
def test_a_fault_is_told_with_line_column_and_mend(
    tmp_path: Path, row: Row, kind: str, at: str, key: str, mend: str
) -> None:
    path = write(tmp_path / "a.jsonl", *[GOOD] * 99, "", row)
    found = validate(path, drop_faults=True)
    (told,) = found.faults
    assert (told.kind, told.row, told.line, told.key) == (kind, 100, 101, key)
    assert json.dumps(row)[told.column - 1 :].startswith(at)
    assert mend in told.mend
    assert found.dropped == [told]
    assert (found.num_rows, found.num_examples) == (100, 99)
    with pytest.raises(RhapsodeError, match=re.escape(f"{path}:101:{told.column}: {key}")) as caught:
        validate(path)
    assert "drop_faults" in caught.value.hint


@pytest.mark.parametrize(
    ("good", "row", "kind", "key"),
    [
        ({"prompt": "a", "completion": "b"}, {"prompt": "a", "completion": " "}, fault.EMPTY_ANSWER, "completion"),
        ({"prompt": "a", "completion": "b"}, {"prompt": "", "completion": "b"}, fault.EMPTY_MESSAGE, "prompt"),
        (
            {"prompt": "a", "completion": "b"},
            {"prompt": [user()], "completion": [said(), user()]},
            fault.NO_ANSWER,
            "completion",
        ),
        ({"prompt": "a", "completion": "b"}, {"prompt": "a", "completion": 3}, fault.WRONG_TYPE, "completion"),
        (
            {"prompt": "a", "chosen": "b", "rejected": "c"},
            {"prompt": "a", "chosen": "b", "rejected": "b"},
            fault.SAME_ANSWERS,
            "rejected",
        ),
        (
            {"prompt": "a", "chosen": "b", "rejected": "c"},
            {"prompt": "a", "chosen": "b", "rejected": ""},
            fault.EMPTY_ANSWER,
            "rejected",
        ),
        (
            {"chosen": [user(), said("b")], "rejected": [user(), said("c")]},
            {"chosen": [user(), said("b")], "rejected": [user(), said("")]},
            fault.EMPTY_ANSWER,
            "rejected[1].content",
        ),
        (
            {"chosen": [user(), said("b")], "rejected": [user(), said("c")]},
            {"chosen": [user("x"), said("b")], "rejected": [user("y"), said("c")]},
            fault.NO_PROMPT,
            "chosen",
        ),
        (
            {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"},
            {"chosen": "b", "rejected": "c"},
            fault.NO_PROMPT,
            "chosen",
        ),
        (
            {"prompt": "a", "completion": "b", "label": True},
            {"prompt": "a", "completion": "b", "label": 1},
            fault.BAD_LABEL,
            "label",
        ),
        (
            {"prompt": "a", "completion": "b", "label": True},
            {"prompt": "a", "completion": "b", "label": "true"},
            fault.BAD_LABEL,
            "label",
        ),
        (
            {"messages": [user(), said()], "label": True},
            {"messages": [user()], "label": True},
            fault.NO_ANSWER,
            "messages[0]",
        ),
        (
            {"instruction": "a", "output": "b"},
            {"instruction": "a", "output": ""},
            fault.EMPTY_ANSWER,
            "output",
        ),
        (
            {"instruction": "a", "output": "b"},
            {"instruction": "a", "output": "b", "system": "x", "history": [["q", "a"], ["r", ""]]},
            fault.EMPTY_ANSWER,
            "history[1][1]",
        ),
        (
            {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
            {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": ""}], "system": "x"},
            fault.EMPTY_ANSWER,
            "conversations[1].value",
        ),
        (
            {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
            {"conversations": [{"from": "human", "value": "a"}, {"from": "function_call", "value": "add(2)"}]},
            fault.BAD_ARGUMENTS,
            "conversations[1].value",
        ),
        (
            {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
            {"conversations": [{"from": "human", "value": "a"}, {"from": "Bot", "value": "b"}]},
            fault.UNKNOWN_ROLE,
            "conversations[1].from",
        ),
        (
            {"turns": [{"speaker": "USER", "text": "a"}, {"speaker": "SYSTEM", "text": "b"}]},
            {"turns": [{"speaker": "USER", "text": "a"}, {"speaker": "SYSTEM", "text": ""}]},
            fault.EMPTY_ANSWER,
            "turns[1].text",
        ),
        ({"text": "a"}, {"text": "\n"}, fault.EMPTY_ANSWER, "text"),
    ],
)  # fmt: skip
def test_faults_of_other_shapes_are_told_in_their_own_words(
    tmp_path: Path, good: Row, row: Row, kind: str, key: str
) -> None:
    found = validate(write(tmp_path / "a.jsonl", *[good] * 64, row), drop_faults=True)
    (told,) = found.faults
    assert (told.kind, told.line, told.key) == (kind, 65, key)
    assert told.column > 1


def test_json_that_is_broken_is_told_with_its_column(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", GOOD, '{"messages": [}', GOOD, '{"messages": "' + "[" * 9)
    found = validate(path, drop_faults=True)
    assert [(told.kind, told.row, told.line, told.column) for told in found.faults] == [
        ("not valid JSON", 2, 2, 15),
        ("not valid JSON", 4, 4, 24),
    ]
    assert found.num_examples == 2


def test_a_list_over_many_lines_has_lines_and_columns_too(tmp_path: Path) -> None:
    rows = [GOOD, GOOD, talk(user(), said(""))]
    path = tmp_path / "a.json"
    path.write_text(json.dumps(rows, indent=2))
    (told,) = validate(path, drop_faults=True).faults
    lines = path.read_text().split("\n")
    assert told.row == 3
    assert lines[told.line - 1].strip() == '"content": ""'
    assert lines[told.line - 1][told.column - 1 :] == '""'


def test_a_list_that_breaks_off_is_refused_even_where_faults_may_be_dropped(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps([GOOD, GOOD], indent=1)[:-2] + ",\n  {oops}]")
    last = path.read_text().count("\n") + 1
    with pytest.raises(RhapsodeError, match=rf"a.json:{last}:4: the rest of the file cannot be read") as caught:
        validate(path, drop_faults=True)
    assert "what stands behind" in caught.value.hint


def test_a_table_of_text_may_hold_lists_and_truth(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    rows = [
        {"prompt": json.dumps([user("a,\nb")]), "completion": "[1, 2] is a list", "label": "True"},
        {"prompt": "c", "completion": "d", "label": "false"},
        {"prompt": "c", "completion": "d", "label": "no"},
    ]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["prompt", "completion", "label"])
        writer.writeheader()
        writer.writerows(rows)
    found = validate(path, drop_faults=True)
    (_, first), (_, second) = found.examples()
    assert isinstance(first, Feedback)
    assert isinstance(second, Feedback)
    assert (first.prompt[0].content, first.completion[0].content, first.label) == ("a,\nb", "[1, 2] is a list", True)
    assert second.label is False
    (told,) = found.faults
    assert (told.kind, told.row, told.line, told.column, told.key) == (fault.BAD_LABEL, 3, 4, 0, "label")


def test_parquet_has_rows_and_null_where_there_is_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    rows = [talk(user(), called(), result(), said(), tools=TOOLS), GOOD, talk(user(), said(""))]
    pq.write_table(pa.Table.from_pylist(rows), path)
    found = validate(path, drop_faults=True)
    (_, first), (_, second) = found.examples()
    assert isinstance(first, Conversation)
    assert first.messages[1].tool_calls[0].function.name == "add"
    assert to_value(second) == GOOD
    (told,) = found.faults
    assert (told.row, told.line, told.key) == (3, 0, "messages[1].content")
    with pytest.raises(RhapsodeError, match=re.escape("a.parquet: row 3: messages[1].content: an empty answer; write")):
        validate(path)


def test_fields_of_other_names_can_be_said(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {"question": "2+2?", "answer": "4"}, {"question": "3+3?", "answer": ""})
    with pytest.raises(RhapsodeError, match="like no shape that is known"):
        validate(path)
    found = validate(path, fields={"question": "prompt", "answer": "completion"}, drop_faults=True)
    assert [example for _, example in found.examples()] == [Completion("2+2?", "4")]
    assert (found.faults[0].key, found.faults[0].column) == ("answer", 32)


def test_a_field_whose_name_is_given_away_is_not_read_and_told(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {"prompt": "x", "question": "2+2?", "answer": "4"})
    found = validate(path, fields={"question": "prompt", "answer": "completion"})
    assert [example for _, example in found.examples()] == [Completion("2+2?", "4")]
    assert found.unread == {"prompt of the file": 1}


def test_a_name_that_no_shape_has_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RhapsodeError, match="fields: no shape has a field 'promt'") as caught:
        validate(write(tmp_path / "a.jsonl", {"question": "2+2?"}), fields={"question": "promt"})
    assert "prompt" in caught.value.hint


def test_a_shape_that_is_said_is_read_whatever_else_a_row_looks_like(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {**GOOD, "text": "2+2? 4", "label": "sum"})
    found = validate(path, shape="openai")
    assert found.unread == {"text": 1, "label": 1}
    with pytest.raises(RhapsodeError, match="there is no shape 'chatml'"):
        validate(path, shape="chatml")


def test_what_nobody_reads_is_counted(tmp_path: Path) -> None:
    talk_with_more = talk(user(), {**said(), "reasoning_content": "hm", "audio": None}, source="x", score=None)
    assert validate(write(tmp_path / "a.jsonl", GOOD, talk_with_more)).unread == {
        "source": 1,
        "reasoning_content of a message": 1,
    }


def test_repeats_are_counted_and_kept(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", GOOD, talk(user(), said("four")), GOOD, talk(user("b"), said()), GOOD)
    found = validate(path)
    assert found.num_examples == 5
    assert (found.repeats.num_equal, found.repeats.equal) == (2, [(3, 1), (5, 1)])
    assert (found.repeats.num_reanswered, found.repeats.reanswered) == (1, [(2, 1)])


def test_of_many_faults_the_first_are_shown_and_all_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", GOOD, *[talk(user(), said(""))] * 30, *[talk(user())] * 5)
    with pytest.raises(RhapsodeError) as caught:
        validate(path)
    lines = caught.value.message.split("\n")
    assert len(lines) == SHOWN + 1
    assert lines[-1] == "35 faults in 35 of 36 rows: 30 empty answer, 5 no answer"
    found = validate(path, drop_faults=True)
    assert found.counts == {fault.EMPTY_ANSWER: 30, fault.NO_ANSWER: 5}
    assert len(found.dropped) == 35
    assert found.num_rows == found.num_examples + len(found.dropped)


def test_a_row_may_have_many_faults(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", GOOD, talk(user(""), user("a\x00"), said("")))
    found = validate(path, drop_faults=True)
    assert set(found.counts) == {
        fault.EMPTY_MESSAGE,
        fault.TWICE_IN_A_ROW,
        fault.BAD_CHARACTER,
        fault.EMPTY_ANSWER,
    }
    assert len(found.dropped) == 1


def test_a_file_without_a_good_row_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RhapsodeError, match="an empty answer"):
        validate(write(tmp_path / "a.jsonl", talk(user(), said(""))), drop_faults=True)


def test_a_file_that_has_changed_is_not_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", GOOD)
    found = validate(path)
    write(path, talk(user(), said("5")))
    with pytest.raises(RhapsodeError, match="has changed since it was validated"):
        next(found.examples())


def test_a_row_that_is_too_long_is_a_fault_and_never_in_memory(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", GOOD, talk(user("x" * 5000), said()), GOOD)
    found = validate(path, drop_faults=True, max_row_bytes=1000)
    assert (found.num_examples, found.faults[0].line, found.faults[0].kind) == (2, 2, fault.UNREADABLE)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.txt", b"hello", "a file of examples has rows"),
        ("a", b"hello", "a file of examples has rows"),
        ("a.jsonl", b"", "no row that can be read"),
        ("a.jsonl", b"{\n{\n", "no row that can be read"),
        ("a.parquet", b"hello", "not valid Parquet"),
        ("a.jsonl.zst", b"hello", "damaged compressed file"),
        ("a.jsonl", b"\x00\x01\x02\x00\x00\xff" * 40, "binary"),
        ("missing.jsonl", None, "No such file"),
    ],
)
def test_a_file_that_holds_no_rows_is_refused(tmp_path: Path, name: str, content: bytes | None, says: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(RhapsodeError, match=says):
        validate(tmp_path / name)


def test_every_kind_of_fault_is_sought(tmp_path: Path) -> None:
    """No kind that is only a name."""
    kinds = {value for name, value in vars(fault).items() if name.isupper() and isinstance(value, str)}
    told = {kind for _, kind, *_ in FAULTS}
    elsewhere = {fault.UNREADABLE, fault.NO_PROMPT, fault.SAME_ANSWERS, fault.BAD_LABEL, fault.EMPTY_COLUMN}
    assert kinds == told | elsewhere
