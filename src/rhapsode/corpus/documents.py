"""A document, and the corpus directory that holds many.

    train-00000.parquet ..., validation-00000.parquet ...    what is kept
    dropped/part-00000.parquet ...                           what is not, each with its stage, reason and detail
    files.parquet                                            every input file: digest, what came of it
    report.json                                              the accounting
    manifest.json

`source` names the place a document came from: `folder/file.py`, or `folder/rows.jsonl#L12` for a row.
"""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

from rhapsode.core.errors import RhapsodeError
from rhapsode.core.manifest import read_manifest

KIND = "corpus"
REPORT = "report.json"

Kind = Literal["prose", "code"]
"""What a text is: prose may be repaired and normalised, code is left as its author wrote it."""


class Document(NamedTuple):
    """A text, where it came from and under which licence. `meta` holds JSON values."""

    id: str
    text: str
    source: str
    licence: str
    meta: dict[str, Any]


def document_id(place: str, span: str, text: str) -> str:
    """Sixteen hex digits that stay the same as long as the place and the text do."""
    return hashlib.sha256(f"{place}\0{span}\0{text}".encode()).hexdigest()[:16]


def iter_documents(corpus: Path, *, split: str) -> Iterator[Document]:
    """The documents of one split ("train", "validation" or "dropped"), in their order, a few at a time.

    Raises:
        RhapsodeError: the corpus is incomplete, or it has no such split.
    """
    import pyarrow.parquet

    read_manifest(corpus, kind=KIND)
    pattern = "dropped/part-*.parquet" if split == "dropped" else f"{split}-*.parquet"
    files = sorted(corpus.glob(pattern))
    if not files:
        raise RhapsodeError(f"{corpus} has no split {split!r}", "the splits are train, validation and dropped")
    for file in files:
        with pyarrow.parquet.ParquetFile(file) as table:
            for batch in table.iter_batches(batch_size=64, columns=list(Document._fields)):
                for row in batch.to_pylist():
                    yield Document(**{**row, "meta": json.loads(row["meta"])})
