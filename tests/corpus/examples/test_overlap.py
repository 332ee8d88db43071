"""A prompt is never on both sides: not by a hash, and not because files were given one side each."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from rhapsode.core.errors import RhapsodeError
from rhapsode.core.events import Events
from rhapsode.corpus.config import DataConfig
from rhapsode.corpus.documents import iter_documents
from rhapsode.corpus.examples.prepare import HELD_OUT, prepare_examples


def write(path: Path, *pairs: tuple[str, str]) -> None:
    rows = ({"prompt": prompt, "completion": completion} for prompt, completion in pairs)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Two prompts of the training file are held out too: one with the same answer, one spelled otherwise."""
    write(tmp_path / "a.jsonl", ("one?", "1"), ("Two!", "2"), ("three", "3"), ("four", "4"))
    write(tmp_path / "b.jsonl", ("one?", "1"), ("two", "II"), ("five", "5"))
    return tmp_path


def prepared(folder: Path, sides: dict[str, str], **more: Any) -> Path:
    examples = [{"path": name, "split": side} for name, side in sides.items()]
    config = DataConfig.model_validate({"examples": examples, "split": {"validation": 0.3}, **more})
    return prepare_examples(config, root=folder / "corpora", base=folder, events=Events())


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
    dropped = pq.read_table(corpus / "dropped").to_pylist()
    told = {(row["source"], row["reason"], row["detail"]) for row in dropped}
    assert ("a.jsonl#row2", HELD_OUT, "by b.jsonl#row2") in told
    assert {source for source, *_ in told} == {"a.jsonl#row1", "a.jsonl#row2"}


def test_where_a_hash_decides_nothing_is_left_out(files: Path) -> None:
    corpus = prepared(files, {"a.jsonl": "auto", "b.jsonl": "validation"}, overlap="refuse")
    assert set(prompts(corpus, "validation")) >= {"one?", "two", "five", "Two!"}
    assert len(prompts(corpus, "train")) + len(prompts(corpus, "validation")) == 6
