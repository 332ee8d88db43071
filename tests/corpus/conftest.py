"""A corpus made from a folder in one call, and what came out of it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
import pytest

from rhapsode.core.events import Event, Events
from rhapsode.core.manifest import verify
from rhapsode.corpus.config import DataConfig
from rhapsode.corpus.documents import Document, iter_documents
from rhapsode.corpus.prepare import prepare

PARAGRAPH = (
    "Sing, goddess, the anger of Peleus' son Achilleus and its devastation, which put pains thousandfold upon "
    "the Achaians, hurled in their multitudes to the house of Hades strong souls of heroes. Number {}."
)


def paragraph(number: int) -> str:
    """Ordinary prose that every rule keeps; each number gives another."""
    return PARAGRAPH.format(number)


class Prepared(NamedTuple):
    """A corpus, read back."""

    path: Path
    train: list[Document]
    validation: list[Document]
    dropped: list[dict[str, Any]]
    report: dict[str, Any]
    events: list[Event]

    @property
    def kept(self) -> list[Document]:
        return self.train + self.validation

    @property
    def texts(self) -> list[str]:
        return sorted(document.text for document in self.kept)

    @property
    def reasons(self) -> dict[str, int]:
        return {name: reason["count"] for name, reason in self.report["documents"]["dropped_by_reason"].items()}

    @property
    def skipped(self) -> dict[str, int]:
        return {name: reason["count"] for name, reason in self.report["files"]["skipped_by_reason"].items()}


Make = Callable[..., Prepared]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """make(folder, ..., source={...}, **fields of data) -> Prepared. Nothing is held out unless `split` says so."""

    def call(*paths: Path, source: dict[str, Any] | None = None, **fields: Any) -> Prepared:
        data = {
            "sources": [{"path": str(path), **(source or {})} for path in paths],
            "split": {"validation": 0, "group": "document"},
            **fields,
        }
        events: list[Event] = []
        config = DataConfig.model_validate(data)
        path = prepare(config, root=tmp_path / "corpora", base=tmp_path, events=Events(events.append))
        return read_back(path, events)

    return call


def read_back(path: Path, events: list[Event]) -> Prepared:
    """Everything in a corpus; its accounts must agree with its tables."""
    verify(path)
    report = json.loads((path / "report.json").read_text(encoding="utf-8"))
    dropped = pq.read_table(path / "dropped").to_pylist()
    sides = [list(iter_documents(path, split=split)) for split in ("train", "validation")]
    counts = report["documents"]
    assert counts["read"] == counts["kept"] + counts["dropped"]
    assert (counts["kept"], counts["dropped"]) == (sum(map(len, sides)), len(dropped))
    assert report["files"]["found"] == report["files"]["read"] + report["files"]["skipped"]
    return Prepared(path, *sides, dropped, report, events)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder to put texts into."""
    path = tmp_path / "texts"
    path.mkdir()
    return path
