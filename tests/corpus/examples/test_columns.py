"""Files of plain columns become examples by templates, and what a template cannot find is a fault with its place."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rhapsode.core.errors import RhapsodeError
from rhapsode.corpus.examples import fault
from rhapsode.corpus.examples.columns import columns_of
from rhapsode.corpus.examples.example import Completion, Conversation, Preference, to_value
from rhapsode.corpus.examples.validate import validate

LABELLED = {"prompt": "Which topic?\n{text}\n", "completion": "{label}"}
Row = dict[str, Any]


def write(path: Path, *rows: Row) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def only(path: Path, **settings: Any) -> Any:
    [(_, example)] = list(validate(path, **settings).examples())
    return example


def test_columns_become_a_prompt_and_its_completion(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {"text": "A cheque came back.", "label": "bank", "id": 7})
    found = validate(path, templates=LABELLED)
    assert found.shape == "completion"
    assert [example for _, example in found.examples()] == [Completion("Which topic?\nA cheque came back.\n", "bank")]
    assert found.unread == {"id": 1}


def test_templates_write_any_shape_and_names_stand_beside_them(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {"en": "a dog", "de": "ein Hund", "notes": "Be short."})
    templates = {"instruction": "Into German: {en}", "output": "{de}"}
    spoken = only(path, templates=templates, fields={"notes": "system"})
    assert isinstance(spoken, Conversation)
    assert [(m.role, m.content) for m in spoken.messages] == [
        ("system", "Be short."),
        ("user", "Into German: a dog"),
        ("assistant", "ein Hund"),
    ]
    pair = only(path, templates={"prompt": "{en}", "chosen": "{de}", "rejected": "{en}"})
    assert isinstance(pair, Preference)


def test_a_row_that_is_written_is_not_taken_for_another_shape(tmp_path: Path) -> None:
    """The row has a label, as feedback has, and a text, as plain text has."""
    path = write(tmp_path / "a.jsonl", {"prompt": "old", "text": "t", "label": "yes", "messages": []})
    assert only(path, templates={"prompt": "{text}", "completion": "{label}"}) == Completion("t", "yes")


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_numbers_and_truth_are_written_as_json_has_them(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    row = {"text": "t", "label": True} if suffix == "jsonl" else None
    path.write_text(json.dumps(row) if row else "text,label\nt,TRUE\n", encoding="utf-8")
    assert only(path, templates=LABELLED).completion == "true"
    assert only(write(tmp_path / "b.jsonl", {"a": 1.5, "b": 3}), templates={"text": "{a} {b}"}).text == "1.5 3"


def test_a_template_leads_into_objects_and_lists(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {"translation": {"en": "dog", "de": ["Hund"]}, "a.b": "c"})
    example = only(path, templates={"prompt": "{translation.en} {a.b}", "completion": "{translation.de[0]}"})
    assert to_value(example) == {"prompt": "dog c", "completion": "Hund"}


@given(st.text(alphabet=st.characters(codec="utf-8"), min_size=1), st.text(alphabet="{}ab \n"))
def test_what_stands_in_a_column_is_never_read_as_a_template(column: str, around: str) -> None:
    """Braces in the file's text are text; braces of the template are doubled to be text."""
    escaped = around.replace("{", "{{").replace("}", "}}")
    columns = columns_of({}, {"text": f"{escaped}{{x}}"})
    if column.strip():
        assert columns.read({"x": column}) == {"text": around + column}


FAULTS: list[tuple[Row, str, str, str]] = [
    ({"label": "a"}, fault.MISSING, "text", "the template of prompt names it; the row has the fields label"),
    ({"text": None, "label": "a"}, fault.MISSING, "text", "the template of prompt names it"),
    ({"text": " \n", "label": "a"}, fault.EMPTY_COLUMN, "text", "write it, or remove the row"),
    ({"text": "t", "label": ["a"]}, fault.WRONG_TYPE, "label", "write text or a number"),
    ({"text": "t\x00", "label": "a"}, fault.BAD_CHARACTER, "text", "remove it"),
]


@pytest.mark.parametrize(("row", "kind", "key", "mend"), FAULTS)
def test_what_cannot_be_written_is_a_fault_of_the_column(
    tmp_path: Path, row: Row, kind: str, key: str, mend: str
) -> None:
    path = write(tmp_path / "a.jsonl", {"text": "fine", "label": "b"}, row)
    found = validate(path, templates=LABELLED, drop_faults=True)
    assert (found.num_rows, found.num_examples) == (2, 1)
    [wrong] = found.faults
    assert (wrong.kind, wrong.row, wrong.line, wrong.key) == (kind, 2, 2, key)
    assert mend in wrong.mend
    line = path.read_text(encoding="utf-8").splitlines()[1]
    assert line[wrong.column - 1 :].startswith(json.dumps(row[key]) if key in row else line)
    with pytest.raises(RhapsodeError) as refusal:
        validate(path, templates=LABELLED)
    assert f"{path}:2:{wrong.column}: {key}: " in refusal.value.message


@pytest.mark.parametrize(
    ("fields", "templates", "message", "hint"),
    [
        ({}, {"question": "{a}"}, "templates: no shape has a field 'question'", "the fields are"),
        ({}, {"messages": "{a}"}, "templates: messages does not hold text", "completion"),
        ({"a": "prompt"}, {"prompt": "{a}"}, "templates: prompt is named in fields too", "leave one"),
        ({}, {"prompt": "a { b"}, "templates: prompt: the brace at character 3 stands alone", "{{ and }}"),
        ({}, {"prompt": "a {} b"}, "templates: prompt: the brace at character 3 stands alone", "{{ and }}"),
        ({}, {"prompt": "{[0]}"}, "templates: prompt: {[0]} names no column", "translation.en"),
    ],
)
def test_what_is_no_template_is_said_before_any_row_is_read(
    tmp_path: Path, fields: dict[str, str], templates: dict[str, str], message: str, hint: str
) -> None:
    with pytest.raises(RhapsodeError) as error:
        validate(tmp_path / "absent.jsonl", fields=fields, templates=templates)
    assert message in error.value.message
    assert hint in error.value.hint


def test_templates_that_make_no_shape_say_what_a_shape_needs(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {"a": "b"})
    with pytest.raises(RhapsodeError, match="looks like no shape that is known: it has the fields prompt") as error:
        validate(path, templates={"prompt": "{a}"})
    assert "prompt and completion" in error.value.hint
