"""A prompt is never on both sides: not by a hash, and not because files were given one side each."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from rhapsode.core.errors import RhapsodeError
from rhapsode.core.events import Event, Events
from rhapsode.corpus.config import DataConfig
from rhapsode.corpus.documents import iter_documents
from rhapsode.corpus.examples.overlap import HELD_OUT, NEARLY
from rhapsode.corpus.examples.prepare import prepare_examples
from rhapsode.corpus.examples.sorter import GROUP_HELD_OUT


def write(path: Path, *pairs: tuple[str, str]) -> None:
    rows = ({"prompt": prompt, "completion": completion} for prompt, completion in pairs)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Two prompts of the training file are held out too: one with the same answer, one spelled otherwise."""
    write(tmp_path / "a.jsonl", ("one?", "1"), ("Two!", "2"), ("three", "3"), ("four", "4"))
    write(tmp_path / "b.jsonl", ("one?", "1"), ("two", "II"), ("five", "5"))
    return tmp_path


def prepared(folder: Path, sides: dict[str, str], *, events: Events | None = None, **more: Any) -> Path:
    examples = [{"path": name, "split": side} for name, side in sides.items()]
    config = DataConfig.model_validate({"examples": examples, "split": {"validation": 0.3}, **more})
    return prepare_examples(config, root=folder / "corpora", base=folder, events=events or Events())


def told(corpus: Path) -> set[tuple[str, str, str]]:
    """Place, reason and detail of each row that was dropped."""
    return {(row["source"], row["reason"], row["detail"]) for row in pq.read_table(corpus / "dropped").to_pylist()}


def prompts(corpus: Path, side: str) -> list[str]:
    return [json.loads(document.text)["prompt"] for document in iter_documents(corpus, split=side)]


def test_files_whose_sides_overlap_are_refused_with_both_places(files: Path) -> None:
    with pytest.raises(RhapsodeError, match=r"a\.jsonl#row2 \(train\) asks what b\.jsonl#row2 \(validation\)") as error:
        prepared(files, {"a.jsonl": "train", "b.jsonl": "validation"})
    assert "data.overlap: drop" in error.value.hint
    assert not (files / "corpora").exists() or not any((files / "corpora").iterdir())


@pytest.mark.parametrize("names", [("a.jsonl", "b.jsonl"), ("b.jsonl", "a.jsonl")])
def test_what_is_held_out_can_be_left_out_of_training_and_each_row_is_told(files: Path, names: tuple[str, str]) -> None:
    """Whichever file the recipe names first."""
    sides = {name: "train" if name == "a.jsonl" else "validation" for name in names}
    corpus = prepared(files, sides, overlap="drop")
    assert prompts(corpus, "train") == ["three", "four"]
    assert prompts(corpus, "validation") == ["one?", "two", "five"]
    assert ("a.jsonl#row2", HELD_OUT, "by b.jsonl#row2") in told(corpus)
    assert {source for source, *_ in told(corpus)} == {"a.jsonl#row1", "a.jsonl#row2"}


def test_where_a_hash_decides_nothing_is_left_out(files: Path) -> None:
    corpus = prepared(files, {"a.jsonl": "auto", "b.jsonl": "validation"}, overlap="refuse")
    assert set(prompts(corpus, "validation")) >= {"one?", "two", "five", "Two!"}
    assert len(prompts(corpus, "train")) + len(prompts(corpus, "validation")) == 6


ASKED = ["Where is my parcel number {n}?", "How do I send the {n} lamps back?", "Can {n} people come along on Sunday?"]
LEAKED = "Good morning, could you tell me whether the shop on the harbour is open on a Sunday before noon{}?"


@pytest.fixture
def nearly(tmp_path: Path) -> Path:
    """Questions of a few kinds in other numbers, and one that is held out but for a word at its end."""
    rows = [(text.format(n=n), f"answer {n}") for n in range(20) for text in ASKED]
    write(tmp_path / "a.jsonl", *rows, (LEAKED.format(" or so"), "It opens at nine."))
    write(
        tmp_path / "b.jsonl", ("Where is my parcel number 77?", "answer 77"), (LEAKED.format(""), "It opens at nine.")
    )
    return tmp_path


SIDES = {"a.jsonl": "train", "b.jsonl": "validation"}


def test_what_is_nearly_held_out_refuses_files_with_both_places(nearly: Path) -> None:
    """Questions that differ in their numbers alone are others."""
    with pytest.raises(RhapsodeError, match=r"1 of .*: a\.jsonl#row61 is \d\d% like b\.jsonl#row2$") as error:
        prepared(nearly, SIDES)
    assert "data.alike" in error.value.hint


def test_what_is_nearly_held_out_is_left_out_and_told_whenever_the_corpus_is_used(nearly: Path) -> None:
    heard: list[Event] = []
    corpora = [prepared(nearly, SIDES, overlap="drop", events=Events(heard.append)) for _ in range(2)]
    warnings = [event.fields["message"] for event in heard if event.kind == "warning"]
    assert len(warnings) == 2
    assert all("a.jsonl#row61" in warning and "b.jsonl#row2" in warning for warning in warnings)
    ((source, reason, detail),) = told(corpora[0])
    assert (source, reason) == ("a.jsonl#row61", NEARLY)
    assert detail.startswith("b.jsonl#row2, ")
    report = json.loads((corpora[0] / "report.json").read_text())
    assert report["split"]["train"]["documents"] == report["split"]["train"]["groups"] == len(ASKED) * 20
    assert report["documents"]["read"] == report["documents"]["kept"] + 1 == 63


def test_where_a_hash_decides_what_is_nearly_held_out_is_no_reason_to_refuse(tmp_path: Path) -> None:
    """On whichever side the hash puts them: two that are alike never stand on both."""
    asked = "Is the {} shop by the {} gate open all of {}?"
    twins = [(asked.format(n * 7919, n * 104729, n * 1299709), "Yes.") for n in range(40)]
    write(tmp_path / "a.jsonl", *twins, *((f"{asked} Thanks", answer) for asked, answer in twins))
    corpus = prepared(tmp_path, {"a.jsonl": "auto"}, alike=0.7)
    sides = [{asked.removesuffix(" Thanks") for asked in prompts(corpus, side)} for side in ("train", "validation")]
    assert sides[0].isdisjoint(sides[1])
    assert {reason for _, reason, _ in told(corpus)} == {NEARLY}
    assert len(told(corpus)) + sum(len(prompts(corpus, side)) for side in ("train", "validation")) == 80


def test_nearly_the_same_may_be_allowed(nearly: Path) -> None:
    assert len(prompts(prepared(nearly, SIDES, alike=None), "train")) == 61


def visits(path: Path, *patients: str) -> None:
    rows = [
        {"prompt": f"visit {n} {path.stem}?", "completion": f"note {n}", "who": {"id": p}}
        for n, p in enumerate(patients)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def groups(corpus: Path, side: str) -> set[str]:
    return {document.meta["group"] for document in iter_documents(corpus, split=side)}


BY_PATIENT = {"split": {"validation": 0.3, "group": "who.id"}}


def test_equal_values_of_a_field_stay_on_one_side(tmp_path: Path) -> None:
    visits(tmp_path / "a.jsonl", *(f"patient {n % 12}" for n in range(96)))
    corpus = prepared(tmp_path, {"a.jsonl": "auto"}, **BY_PATIENT)
    train, held_out = groups(corpus, "train"), groups(corpus, "validation")
    assert train.isdisjoint(held_out)
    assert len(train) + len(held_out) == 12
    assert min(len(train), len(held_out)) > 0
    assert len(prompts(corpus, "train")) == 8 * len(train)
    report = json.loads((corpus / "report.json").read_text())
    assert report["split"]["group"] == "who.id"
    assert report["split"]["validation"]["groups"] == len(held_out)


def test_a_group_on_both_given_sides_is_refused_or_left_out(tmp_path: Path) -> None:
    visits(tmp_path / "a.jsonl", "ann", "bob", "cat")
    visits(tmp_path / "b.jsonl", "bob", "dan")
    with pytest.raises(RhapsodeError, match=r"a\.jsonl#row2 \(train\) is of who\.id 'bob', as is b\.jsonl#row1"):
        prepared(tmp_path, SIDES, **BY_PATIENT)
    corpus = prepared(tmp_path, SIDES, overlap="drop", **BY_PATIENT)
    assert groups(corpus, "train") == {"ann", "cat"}
    assert told(corpus) == {("a.jsonl#row2", GROUP_HELD_OUT, "by b.jsonl#row1")}


def test_groups_that_ask_the_same_give_way_to_what_is_held_out(tmp_path: Path) -> None:
    """A group stays whole; what its prompts have in common with held-out ones is not trained on."""
    rows = [{"prompt": f"Question {n % 5}?", "completion": f"Answer {n}", "who": {"id": n // 5}} for n in range(60)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    corpus = prepared(tmp_path, {"a.jsonl": "auto"}, **BY_PATIENT)
    assert {reason for _, reason, _ in told(corpus)} == {HELD_OUT}
    assert not prompts(corpus, "train")


def test_a_row_without_its_group_is_a_fault_with_its_place(tmp_path: Path) -> None:
    visits(tmp_path / "a.jsonl", "ann", "bob")
    with (tmp_path / "a.jsonl").open("a") as file:
        file.write('{"prompt": "Who?", "completion": "Nobody", "who": {}}\n')
    with pytest.raises(RhapsodeError, match=r"a\.jsonl:3:\d+: who.*: missing; data\.split\.group names it"):
        prepared(tmp_path, {"a.jsonl": "auto"}, **BY_PATIENT)
