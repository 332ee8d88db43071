"""What of the training side is held out as well: the same question, or nearly the same example.

It is looked for when both sides are complete, whatever put a row where it is. Held-out examples stay, for they are what
is measured; it is the training side that gives way, or the files are refused.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rhapsode.corpus.documents import Document
from rhapsode.corpus.examples.alike import Index, features
from rhapsode.corpus.examples.example import Example, example_of, question, said, same_prompt
from rhapsode.corpus.shards import DOCUMENTS, Shards, put_aside, read_shards

HELD_OUT = "its prompt is held out"
NEARLY = "nearly the same is held out"


class Overlap(NamedTuple):
    """A row of the training side, by its number from 0 on; why it should not be trained on, and the held-out row."""

    number: int
    source: str
    size: int
    reason: str
    held_out: str
    share: float

    @property
    def detail(self) -> str:
        return f"by {self.held_out}" if self.reason == HELD_OUT else f"{self.held_out}, {self.share:.0%} alike"

    @property
    def said(self) -> str:
        if self.reason == HELD_OUT:
            return f"{self.source} asks what {self.held_out} asks"
        return f"{self.source} is {self.share:.0%} like {self.held_out}"


def digest64(value: str | bytes) -> int:
    data = value if isinstance(value, bytes) else value.encode()
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest())


def overlaps(folder: Path, *, alike: float | None) -> list[Overlap]:
    """Rows of the training side in `folder` that ask what is held out, or are as `alike` to it as that.

    Memory grows with what is held out. 15,000 short rows beside 4,500 take four seconds.
    """
    held = [(row["source"], example) for row, example in _rows(folder, "validation")]
    questions = {_asked(example): source for source, example in reversed(held)}
    index = None if alike is None else _index(folder, held, alike=alike)
    found = []
    for number, (row, example) in enumerate(_rows(folder, "train")):
        place = (number, row["source"], len(row["text"].encode()))
        if (source := questions.get(_asked(example))) is not None:
            found.append(Overlap(*place, HELD_OUT, source, 1.0))
        elif index is not None and (near := index.find(features(_text(example)))) is not None:
            found.append(Overlap(*place, NEARLY, held[near.place][0], near.share))
    return found


def leave_out(folder: Path, found: Mapping[int, Overlap], dropped: Shards) -> None:
    """Move these rows, by their numbers, from the training side to what is dropped."""
    with put_aside(folder, "train") as aside, Shards(folder, "train", DOCUMENTS) as stays:
        for number, row in enumerate(read_shards(aside, "train")):
            size, values = len(row["text"].encode()), tuple(row.values())
            if (one := found.get(number)) is None:
                stays.add(values, size=size)
            else:
                dropped.add((*values, "split", one.reason, one.detail), size=size)


def _rows(folder: Path, side: str) -> Iterator[tuple[dict[str, Any], Example]]:
    for row in read_shards(folder, side):
        yield row, example_of(Document(**{**row, "meta": json.loads(row["meta"])}))


def _asked(example: Example) -> int:
    return digest64(same_prompt(question(example)))


def _text(example: Example) -> str:
    return "\n".join(said(example))


def _index(folder: Path, held: list[tuple[str, Example]], *, alike: float) -> Index:
    index = Index((_text(example) for _, example in held), least=alike)
    for _, example in _rows(folder, "train"):
        index.count(features(_text(example)))
    return index
