"""Evidence is read as if it meant harm: it may come with a model from anywhere."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.conformance.conftest import edit_json

from rhapsode.conformance.evidence import FOLDER, LOGITS, VECTORS, read_evidence, write_evidence
from rhapsode.core.errors import RhapsodeError
from rhapsode.weights.safetensors import read_tensors, write_tensors

Value = dict[str, Any]


@pytest.fixture
def copy(model_dir: Path, tmp_path: Path) -> Path:
    shutil.copytree(model_dir / FOLDER, tmp_path / FOLDER)
    return tmp_path


def test_what_is_written_is_what_is_read(model_dir: Path, tmp_path: Path) -> None:
    evidence = read_evidence(model_dir)
    assert evidence is not None
    write_evidence(tmp_path, evidence)
    again = read_evidence(tmp_path)
    assert again is not None
    assert again.vectors == evidence.vectors
    assert all(np.array_equal(one, other) for one, other in zip(again.scores, evidence.scores, strict=True))
    assert (tmp_path / FOLDER / VECTORS).read_bytes() == (model_dir / FOLDER / VECTORS).read_bytes()


def test_a_directory_need_not_carry_any(tmp_path: Path) -> None:
    assert read_evidence(tmp_path) is None


EDITS: dict[str, Callable[[Value], None]] = {
    "another version": lambda value: value.update(version=2),
    "an unknown key": lambda value: value.update(code="import os"),
    "a missing key": lambda value: value.pop("stops"),
    "no case": lambda value: value.update(cases=[]),
    "too many cases": lambda value: value.update(cases=value["cases"] * 20),
    "an id beyond the vocabulary": lambda value: value["cases"][0]["ids"].append(value["vocabulary"]),
    "a negative id": lambda value: value["cases"][0]["ids"].append(-1),
    "text for an id": lambda value: value["cases"][0]["ids"].append("1"),
    "too many ids": lambda value: value["cases"][0].update(ids=[1] * 5000),
    "another number of ids": lambda value: value["cases"][2].update(ids=[]),
    "neither text nor conversation": lambda value: value["cases"][0].pop("text"),
    "a message without a role": lambda value: value["cases"][-1]["messages"][0].pop("role"),
    "gaps for some tokens": lambda value: value["cases"][0]["gaps"].pop(),
    "words of another vocabulary": lambda value: value.update(words=value["words"][4:]),
    "words that are no digits": lambda value: value.update(words="zzzz" + value["words"][4:]),
    "no room for a prompt": lambda value: value.update(longest=0),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_vectors_that_are_not_ours_are_refused(edit: Callable[[Value], None], copy: Path) -> None:
    edit_json(copy / FOLDER / VECTORS, edit)
    with pytest.raises(RhapsodeError, match=f"{VECTORS}|{LOGITS}"):
        read_evidence(copy)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"version": NaN}',
        b" " * (1 << 20) + b"{}",
        b'{"cases": [' + b"{}," * 300_000 + b"{}]}",
        b'{"stops": [' + b'"",' * 300_000 + b'""]}',
    ],
    ids=["empty", "a list", "half", "no text", "deep", "no number", "too large", "many cases", "many mistakes"],
)
def test_vectors_that_are_no_json_are_refused(data: bytes, copy: Path) -> None:
    (copy / FOLDER / VECTORS).write_bytes(data)
    with pytest.raises(RhapsodeError):
        read_evidence(copy)


@given(data=st.data())
def test_whatever_bytes_are_there_only_our_errors_come_out(
    data: st.DataObject, model_dir: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("fuzz")
    shutil.copytree(model_dir / FOLDER, directory / FOLDER)
    file = directory / FOLDER / data.draw(st.sampled_from([VECTORS, LOGITS]))
    content = bytearray(file.read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    file.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        read_evidence(directory)
    except RhapsodeError:
        return


def _with(name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        tensors = read_tensors(path)
        write_tensors(path, {**tensors, name: change(tensors[name])})

    return edit


def _become_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _grow(path: Path) -> None:
    path.write_bytes(path.read_bytes() + bytes(1 << 20))


SCORES: dict[str, Callable[[Path], None]] = {
    "fewer rows": _with("scores", lambda scores: scores[1:].contiguous()),
    "an unknown tensor": _with("ids", lambda ids: ids.t().contiguous()),
    "bfloat16": _with("scores", lambda scores: scores.bfloat16()),
    "wide ids": _with("ids", lambda ids: ids.long()),
    "a score that is no number": _with("scores", lambda scores: scores * float("nan")),
    "an infinite sum": _with("log_sums", lambda sums: sums / 0),
    "an id beyond the vocabulary": _with("ids", lambda ids: ids + 10_000),
    "a negative id": _with("ids", lambda ids: -ids - 1),
    "no file": Path.unlink,
    "a folder": _become_a_folder,
    "a large file": _grow,
}


@pytest.mark.parametrize("edit", SCORES.values(), ids=SCORES)
def test_scores_that_are_not_ours_are_refused(edit: Callable[[Path], None], copy: Path) -> None:
    edit(copy / FOLDER / LOGITS)
    with pytest.raises(RhapsodeError, match=LOGITS):
        read_evidence(copy)


def test_the_file_is_for_people_to_read_too(model_dir: Path) -> None:
    text = (model_dir / FOLDER / VECTORS).read_text(encoding="utf-8")
    assert "Скажи мне, муза" in text
    assert len(text.splitlines()) >= len(json.loads(text)["cases"])
