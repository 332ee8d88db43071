"""Every example on its side: that of its group, or of what it opens with, or the one that its file was given."""

import json
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rhapsode.core.errors import RhapsodeError
from rhapsode.corpus.accounting import Accounts, Tally
from rhapsode.corpus.config import DataConfig
from rhapsode.corpus.documents import document_id
from rhapsode.corpus.examples.config import ExampleSource
from rhapsode.corpus.examples.example import (
    Example,
    Text,
    family_of,
    is_said,
    opening,
    question,
    same_prompt,
    to_value,
)
from rhapsode.corpus.examples.overlap import HELD_OUT, Overlap, digest64, leave_out
from rhapsode.corpus.examples.validate import Good, Validated
from rhapsode.corpus.shards import DOCUMENTS, DROPPED, Shards
from rhapsode.corpus.split import SIDES, Side, position, side_of

DUPLICATE = "exact duplicate"
GROUP_HELD_OUT = "its group is held out"
NAMED = 5


class Input(NamedTuple):
    """A file, what the recipe says of it, its label and its digest."""

    source: ExampleSource
    path: Path
    label: str
    sha256: str


class Sorter:
    """Puts every example where it belongs, and remembers what `balance` asks for."""

    def __init__(self, config: DataConfig, folder: Path) -> None:
        self.accounts = Accounts()
        self.positions: dict[Side, array[int]] = {side: array("Q") for side in SIDES}
        self.sizes: dict[Side, array[int]] = {side: array("Q") for side in SIDES}
        self.texts: dict[Side, array[int]] = {side: array("Q") for side in SIDES}
        self.shards: dict[Side, Shards] = {side: Shards(folder, side, DOCUMENTS) for side in SIDES}
        self.dropped = Shards(folder / "dropped", "part", DROPPED)
        self.family = ""
        self._is_chat: bool | None = None
        self._config, self._folder = config, folder
        self._files: dict[str, tuple[ExampleSource, Tally]] = {}
        self._seen: dict[int, str] = {}
        self._sides: dict[int, tuple[Side, str]] = {}

    def take(self, item: Input, validated: Validated) -> None:
        tally = self.accounts.of(item.label, validated.shape)
        tally.files, tally.file_bytes = 1, item.path.stat().st_size
        self._files[item.label] = (item.source, tally)
        licence = item.source.licence
        for fault in validated.dropped:
            tally.read += 1
            source = f"{item.label}#row{fault.row}"
            tally.drop("validate", fault.kind, source=source, detail=fault.what, size=0)
            self.dropped.add(("", "", source, licence, "{}", "validate", fault.kind, fault.what), size=0)
        for good in validated.good():
            tally.read += 1
            example, source = good.example, f"{item.label}#row{good.number}"
            self._one_family(example, source)
            text = json.dumps(to_value(example), ensure_ascii=False)
            row = (document_id(source, "", text), text, source, licence, _meta(good))
            digest, size = digest64(text), len(text.encode())
            if self._config.deduplicate == "exact" and digest in self._seen:
                detail = f"the same as {self._seen[digest]}"
                tally.drop("deduplicate", DUPLICATE, source=source, detail=detail, size=size)
                self.dropped.add((*row, "deduplicate", DUPLICATE, detail), size=size)
                continue
            place, side, held_out = self._place(item.source, good, source)
            if held_out:
                reason = HELD_OUT if good.group is None else GROUP_HELD_OUT
                tally.drop("split", reason, source=source, detail=held_out, size=size)
                self.dropped.add((*row, "split", reason, held_out), size=size)
                continue
            self._seen.setdefault(digest, source)
            self.shards[side].add(row, size=size)
            self.positions[side].append(place)
            self.texts[side].append(digest)
            self.sizes[side].append(size)
            tally.kept += 1
            tally.kept_bytes += size

    def _one_family(self, example: Example, source: str) -> None:
        family = family_of(example)
        if self.family and family != self.family:
            raise RhapsodeError(
                f"{source} is for {family}, the examples before it are for {self.family}",
                "tune on one kind at a time, each with a recipe of its own",
            )
        self.family = family
        if isinstance(example, Text):
            return  # it asks for nothing
        is_chat = is_said(example)
        if self._is_chat not in (None, is_chat):
            here, before = ("a conversation", "text") if is_chat else ("text as it is", "conversations")
            raise RhapsodeError(
                f"{source} is {here}, the examples before it are {before}: a model is asked in one way",
                "questions and answers in columns are conversations by fields: {question: instruction, answer: output}",
            )
        self._is_chat = is_chat

    def leave_out(self, found: Sequence[Overlap]) -> None:
        """Take what is held out from the training side, now that both are complete.

        Raises:
            RhapsodeError: it stands in a file for training, and `data.overlap` would not have it dropped.
        """
        refused = [one for one in found if self._file(one).split == "train"]
        if refused and self._config.overlap == "refuse":
            raise RhapsodeError(
                f"{len(refused):,} of the examples for training are held out, or nearly: {named(refused)}",
                "have them left out of training (data.overlap: drop), leave the side to us (data.examples[].split: "
                "auto), or say from how alike on two examples are the same (data.alike)",
            )
        if found:
            leave_out(self._folder, {one.number: one for one in found}, self.dropped)
        for one in found:
            tally = self._files[_label(one)][1]
            tally.kept, tally.kept_bytes = tally.kept - 1, tally.kept_bytes - one.size
            tally.drop("split", one.reason, source=one.source, detail=one.detail, size=one.size)

    def _file(self, row: Overlap) -> ExampleSource:
        return self._files[_label(row)][0]

    def _place(self, given: ExampleSource, row: Good, source: str) -> "_Place":
        """Where it belongs.

        Raises:
            RhapsodeError: files that are given a side each share a prompt or a group, and nothing may be dropped.
        """
        config, bound = self._config, _bound(row)
        place = position(bound.group, seed=config.split.seed)
        side = side_of(place, validation=config.split.validation) if given.split == "auto" else given.split
        known, first = self._sides.setdefault(digest64(bound.bond), (side, source))
        if known != side and given.split == "auto":
            side = known
        elif known != side and (config.overlap == "refuse" or side == "validation"):
            other = f"{first} ({known})"
            of_group = f"is of {config.split.field} {row.group!r:.60}, as is {other}"
            raise RhapsodeError(
                f"{source} ({side}) {f'asks what {other} asks' if row.group is None else of_group}: what is held out "
                "must not be trained on",
                "take one of the two out, have it left out of training (data.overlap: drop), or leave the side to us "
                "(data.examples[].split: auto)",
            )
        return _Place(place, side, f"by {first}" if known != side else "")


class _Bound(NamedTuple):
    """The name of its group in the split, and what it has in common with rows that must be on its side."""

    group: bytes
    bond: bytes


def _bound(row: Good) -> _Bound:
    if row.group is None:
        return _Bound(same_prompt(opening(row.example)), same_prompt(question(row.example)))
    name = b"group\0" + row.group.encode("utf-8", "surrogatepass")
    return _Bound(name, name)


class _Place(NamedTuple):
    """Where an example belongs: the place of its opening in the split, its side, and what is held out instead of it."""

    position: int
    side: Side
    held_out: str


def named(found: Sequence[Overlap]) -> str:
    """The first few of them, for people."""
    return ", ".join([*(one.said for one in found[:NAMED]), *(["..."] if len(found) > NAMED else [])])


def _meta(row: Good) -> str:
    known = {"kind": type(row.example).__name__.lower()}
    return json.dumps(known if row.group is None else known | {"group": row.group})


def _label(row: Overlap) -> str:
    return row.source.rpartition("#row")[0]
