"""A row's check is kept as it is, told by its form, and a row whose check is none is a fault with its place."""

import json
from pathlib import Path

import pytest

from rhapsode.core.errors import RhapsodeError
from rhapsode.core.events import Events
from rhapsode.corpus.config import DataConfig
from rhapsode.corpus.documents import iter_documents
from rhapsode.corpus.examples.check import kind_of
from rhapsode.corpus.examples.example import example_of, from_value, said, to_value
from rhapsode.corpus.examples.prepare import prepare_examples
from rhapsode.corpus.examples.validate import validate


@pytest.mark.parametrize(
    ("check", "kind"),
    [
        ("assert add(1, 2) == 3", "unit_tests"),
        ('["assert add(1, 2) == 3"]', "unit_tests"),
        ('{"type": "object"}', "json_schema"),
        ("12.5", "number"),
        ("true", "unit_tests"),
    ],
)
def test_its_form_says_which_scorer_it_is_for(check: str, kind: str) -> None:
    assert kind_of(check) == kind


def test_it_goes_to_the_corpus_and_back_and_nobody_says_it(tmp_path: Path) -> None:
    rows = [{"prompt": f"{n} + 1 =", "completion": f" {n + 1}", "check": n + 1} for n in range(30)]
    (tmp_path / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = DataConfig.model_validate({"examples": [{"path": "sums.jsonl"}]})
    corpus = prepare_examples(data, root=tmp_path / "corpora", base=tmp_path, events=Events())
    found = [
        example_of(document) for split in ("train", "validation") for document in iter_documents(corpus, split=split)
    ]
    assert {(example.prompt, example.check) for example in found} == {
        (row["prompt"], str(row["check"])) for row in rows
    }
    assert all(from_value(to_value(example), kind="completion") == example for example in found)
    assert all(said(example) == [example.prompt, example.completion] for example in found)


@pytest.mark.parametrize("check", [True, [], ["assert 1", 2], [""]])
def test_what_is_no_check_is_a_fault(tmp_path: Path, check: object) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"prompt": "p", "completion": "c", "check": check}) + "\n")
    with pytest.raises(RhapsodeError, match=r"a\.jsonl:1:\d+: check"):
        validate(tmp_path / "a.jsonl")


def test_a_column_of_another_name_can_be_the_check(tmp_path: Path) -> None:
    row = {"text": "Add.", "code": "def add(a, b): return a + b", "test_list": ["assert add(1, 2) == 3"]}
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n")
    names = {"text": "prompt", "code": "completion", "test_list": "check"}
    [(_, example)] = list(validate(tmp_path / "a.jsonl", fields=names).examples())
    assert json.loads(example.check) == row["test_list"]
