"""Files of examples to a corpus: validated whole, deduplicated, split by prompt, and written once for each key.

It is a corpus like any other, whose documents are examples in their canonical JSON. The side of an example is that of
what it opens with, and openings that differ in case, spaces or punctuation alone are one: no answer is asked for in
validation that was learned in training.
"""

import hashlib
import json
import re
import unicodedata
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rhapsode.core.errors import RhapsodeError
from rhapsode.core.events import Events
from rhapsode.core.manifest import Writing, is_complete, read_manifest, value_sha256, writing
from rhapsode.corpus.accounting import Accounts
from rhapsode.corpus.balance import Balance, balance
from rhapsode.corpus.config import DataConfig
from rhapsode.corpus.digests import code_sha256
from rhapsode.corpus.documents import KIND, REPORT, document_id
from rhapsode.corpus.examples.config import ExampleSource
from rhapsode.corpus.examples.example import Example, family_of, opening, question, to_value
from rhapsode.corpus.examples.rows import digest_of
from rhapsode.corpus.examples.validate import Validated, validate
from rhapsode.corpus.shards import DOCUMENTS, DROPPED, Shards
from rhapsode.corpus.sources import expand, labels_of
from rhapsode.corpus.split import SIDES, Side, position, side_of

KEY_CHARS = 16
DUPLICATE = "exact duplicate"
HELD_OUT = "its prompt is held out"
_NOT_A_WORD = re.compile(r"[\W_]+")


class _Input(NamedTuple):
    """A file, what the recipe says of it, its label and its digest."""

    source: ExampleSource
    path: Path
    label: str
    sha256: str


def prepare_examples(config: DataConfig, *, root: Path, base: Path, events: Events) -> Path:
    """Make the corpus, or find it made.

    Args:
        config: the recipe's `data:` section; its `tokens:` and `too_long` have no part in this.
        root: where corpora lie, each in a folder named by its key.
        base: the folder that relative paths start from.
        events: hears "progress" in files and, at the end, "corpus".

    Raises:
        RhapsodeError: a file is missing or has faults, files hold examples of different kinds, a prompt stands on both
            sides, nothing can be held out, or the disk is full. Nothing half-written is left behind.
    """
    inputs = _inputs(config.examples, base)
    recipe = config.model_dump(
        mode="json", include={"examples", "deduplicate", "split", "overlap", "max_document_bytes"}
    )
    for source in recipe["examples"]:
        del source["path"]
    facts: dict[str, Any] = {"code": code_sha256()}
    digests = {item.label: item.sha256 for item in inputs}
    corpus = root / value_sha256([recipe, digests, facts])[:KEY_CHARS]
    is_reused = is_complete(corpus)
    if not is_reused:
        with writing(corpus, kind=KIND, inputs=digests, recipe=recipe, facts=facts) as work:
            _write(config, inputs, work, events)
    counts = read_manifest(corpus, kind=KIND).facts["documents"]
    events.emit("corpus", path=str(corpus), reused=is_reused, **counts)
    return corpus


def _inputs(sources: Sequence[ExampleSource], base: Path) -> list[_Input]:
    paths = [expand(s.path, key=f"data.examples[{i}].path", base=base) for i, s in enumerate(sources)]
    labels = labels_of([source.name for source in sources], paths)
    return [_Input(s, p, label, digest_of(p)) for s, p, label in zip(sources, paths, labels, strict=True)]


def _write(config: DataConfig, inputs: Sequence[_Input], work: Writing, events: Events) -> None:
    found = []
    for index, item in enumerate(inputs):
        events.emit("progress", stage="read", done=index, total=len(inputs), unit="files")
        found.append(
            validate(
                item.path,
                shape=None if item.source.shape == "auto" else item.source.shape,
                fields=item.source.fields,
                templates=item.source.templates,
                drop_faults=item.source.drop_faults,
                max_row_bytes=config.max_document_bytes,
            )
        )
    events.emit("progress", stage="read", done=len(inputs), total=len(inputs), unit="files")
    sorter = _Sorter(config, work.path)
    with sorter.shards["train"], sorter.shards["validation"], sorter.dropped:
        # What is held out comes first: then it is the training side that gives way.
        pairs = sorted(zip(inputs, found, strict=True), key=lambda pair: pair[0].source.split != "validation")
        for item, validated in pairs:
            sorter.take(item, validated)
    sorter.accounts.close()
    result = balance(work.path, config.split, positions=sorter.positions, texts=sorter.texts, sizes=sorter.sizes)
    if config.split.validation and not result.sides["validation"].documents:
        raise RhapsodeError(
            "cannot hold anything out: all examples have the same prompt",
            "add examples, or set data.split.validation: 0 to train without measuring",
        )
    report = _report(sorter.accounts, result, found)
    (work.path / REPORT).write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    accounts = sorter.accounts
    work.facts["documents"] = {
        "read": accounts.total("read"),
        "kept": accounts.total("kept"),
        "dropped": accounts.total("num_dropped"),
        **{side: result.sides[side].documents for side in SIDES},
    }
    work.facts["examples"] = sorter.family


class _Sorter:
    """Puts every example where it belongs, and remembers what `balance` asks for."""

    def __init__(self, config: DataConfig, folder: Path) -> None:
        self.accounts = Accounts()
        self.positions: dict[Side, array[int]] = {side: array("Q") for side in SIDES}
        self.sizes: dict[Side, array[int]] = {side: array("Q") for side in SIDES}
        self.texts: dict[Side, array[int]] = {side: array("Q") for side in SIDES}
        self.shards: dict[Side, Shards] = {side: Shards(folder, side, DOCUMENTS) for side in SIDES}
        self.dropped = Shards(folder / "dropped", "part", DROPPED)
        self.family = ""
        self._config = config
        self._seen: dict[int, str] = {}
        self._sides: dict[int, tuple[Side, str]] = {}

    def take(self, item: _Input, validated: Validated) -> None:
        tally = self.accounts.of(item.label, validated.shape)
        tally.files, tally.file_bytes = 1, item.path.stat().st_size
        licence = item.source.licence
        for fault in validated.dropped:
            tally.read += 1
            source = f"{item.label}#row{fault.row}"
            tally.drop("validate", fault.kind, source=source, detail=fault.what, size=0)
            self.dropped.add(("", "", source, licence, "{}", "validate", fault.kind, fault.what), size=0)
        for number, example in validated.examples():
            tally.read += 1
            source = f"{item.label}#row{number}"
            self._one_family(example, source)
            text = json.dumps(to_value(example), ensure_ascii=False)
            row = (document_id(source, "", text), text, source, licence, _meta(example))
            digest, size = _hash(text), len(text.encode())
            if self._config.deduplicate == "exact" and digest in self._seen:
                detail = f"the same as {self._seen[digest]}"
                tally.drop("deduplicate", DUPLICATE, source=source, detail=detail, size=size)
                self.dropped.add((*row, "deduplicate", DUPLICATE, detail), size=size)
                continue
            place, side, held_out = self._place(item.source, example, source)
            if held_out:
                tally.drop("split", HELD_OUT, source=source, detail=held_out, size=size)
                self.dropped.add((*row, "split", HELD_OUT, held_out), size=size)
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

    def _place(self, given: ExampleSource, example: Example, source: str) -> "_Place":
        """Where it belongs.

        Raises:
            RhapsodeError: files that are given a side each have the same prompt, and none of the two may be dropped.
        """
        place = position(same_prompt(opening(example)), seed=self._config.split.seed)
        side = side_of(place, validation=self._config.split.validation) if given.split == "auto" else given.split
        known, first = self._sides.setdefault(_hash(same_prompt(question(example))), (side, source))
        if known != side and given.split == "auto":
            side = known
        elif known != side and (self._config.overlap == "refuse" or side == "validation"):
            raise RhapsodeError(
                f"{source} ({side}) asks what {first} ({known}) asks: held-out prompts must not be trained on",
                "take one of the two out, have it left out of training (data.overlap: drop), or leave the side to us "
                "(data.examples[].split: auto)",
            )
        return _Place(place, side, f"by {first}" if known != side else "")


class _Place(NamedTuple):
    """Where an example belongs: the place of its opening in the split, its side, and what is held out instead of it."""

    position: int
    side: Side
    held_out: str


def same_prompt(text: str) -> bytes:
    """What two prompts have in common that differ in case, spaces or punctuation alone."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return (_NOT_A_WORD.sub(" ", folded).strip() or text).encode("utf-8", "surrogatepass")


def _hash(value: str | bytes) -> int:
    data = value if isinstance(value, bytes) else value.encode()
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest())


def _meta(example: Example) -> str:
    return json.dumps({"kind": type(example).__name__.lower()})


def _report(accounts: Accounts, result: Balance, found: Sequence[Validated]) -> dict[str, Any]:
    return {
        "files": {
            "found": accounts.total("files"),
            "read": accounts.total("files"),
            "skipped": 0,
            "passed_over": 0,
            "bytes": accounts.total("file_bytes"),
            "skipped_by_reason": {},
        },
        "documents": {
            "read": accounts.total("read"),
            "kept": accounts.total("kept"),
            "kept_bytes": accounts.total("kept_bytes"),
            "dropped": accounts.total("num_dropped"),
            "dropped_by_reason": accounts.dropped(),
        },
        "split": {
            "group": "prompt",
            **{side: result.sides[side]._asdict() for side in SIDES},
            "group_moved_to_fill_a_side": result.has_moved,
            "texts_on_both_sides": result.shared_texts,
        },
        "sources": accounts.rows(),
        "examples": [
            {
                "file": str(one.path.name),
                "shape": one.shape,
                "rows": one.num_rows,
                "said_again": one.repeats.num_equal,
                "prompts_answered_in_several_ways": one.repeats.num_reanswered,
                "fields_not_read": dict(one.unread),
            }
            for one in found
        ],
    }
