"""From a step back to the documents that it was made of."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rhapsode.train.trainer import Data

SHOWN = 3


class Blamed(NamedTuple):
    """The file that lists every document of the steps that failed, and a sentence about the last step's."""

    path: Path
    sentence: str


def documents_of(data: Data, rows: Sequence[int]) -> list[dict[str, object]]:
    """Every piece of a document in these packed rows; `start` counts its tokens, bos included."""
    split = data.tokens.split("train")
    return [
        {
            "row": row,
            "document": split.document_id(piece.document),
            "source": split.document_source(piece.document),
            "start": piece.start,
            "tokens": piece.length,
        }
        for row in rows
        for piece in data.training.row(row)
    ]


def prompts_of(data: Data, rows: Sequence[int]) -> list[dict[str, object]]:
    """The documents whose prompts were asked."""
    split, items = data.tokens.split("train"), data.items("train")
    sources = {split.document_id(index): split.document_source(index) for index in range(split.num_documents)}
    return [{"prompt": row, "document": items[row].id, "source": sources[items[row].id]} for row in rows]


def blame(
    data: Data, steps: Sequence[tuple[int, Sequence[int]]], *, run_dir: Path, are_prompts: bool = False
) -> Blamed:
    """Write `run_dir/bad-batch-step-NNNNNN.json`.

    Args:
        steps: (step, its rows) of each that did not move the weights, the last one last.
        are_prompts: the rows are prompts by number, not packed rows.
    """
    found = prompts_of if are_prompts else documents_of
    listed = [{"step": step, "documents": found(data, rows)} for step, rows in steps]
    path = run_dir / f"bad-batch-step-{steps[-1][0]:06d}.json"
    path.write_text(json.dumps({"steps": listed}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    names = list(dict.fromkeys(f"{d['document']} of {d['source']}" for d in found(data, steps[-1][1])))
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return Blamed(path, f"the last one learned from {', '.join(names[:SHOWN])}{more}; all are listed in {path}")
