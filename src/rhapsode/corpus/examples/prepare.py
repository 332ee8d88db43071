"""Files of examples to a corpus: validated whole, deduplicated, split by prompt, and written once for each key.

It is a corpus like any other, whose documents are examples in their canonical JSON. The side of an example is that of
its group, or of what it opens with, and openings that differ in case, spaces or punctuation alone are one: no answer is
asked for in validation that was learned in training. What is nearly held out is not trained on either.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rhapsode.core.errors import RhapsodeError
from rhapsode.core.events import Events
from rhapsode.core.manifest import Writing, is_complete, read_manifest, value_sha256, writing
from rhapsode.corpus.accounting import Accounts
from rhapsode.corpus.balance import Balance, balance
from rhapsode.corpus.config import DataConfig
from rhapsode.corpus.digests import code_sha256
from rhapsode.corpus.documents import KIND, REPORT
from rhapsode.corpus.examples.config import ExampleSource
from rhapsode.corpus.examples.overlap import Overlap, overlaps
from rhapsode.corpus.examples.rows import digest_of
from rhapsode.corpus.examples.sorter import Input, Sorter, named
from rhapsode.corpus.examples.validate import Validated, validate
from rhapsode.corpus.sources import expand, labels_of
from rhapsode.corpus.split import SIDES

KEY_CHARS = 16


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
        mode="json", include={"examples", "deduplicate", "split", "overlap", "alike", "max_document_bytes"}
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
    facts = read_manifest(corpus, kind=KIND).facts
    events.emit("corpus", path=str(corpus), reused=is_reused, **facts["documents"])
    if told := facts["overlap"]:
        events.emit("warning", message=told)
    return corpus


def _inputs(sources: Sequence[ExampleSource], base: Path) -> list[Input]:
    paths = [expand(s.path, key=f"data.examples[{i}].path", base=base) for i, s in enumerate(sources)]
    labels = labels_of([source.name for source in sources], paths)
    return [Input(s, p, label, digest_of(p)) for s, p, label in zip(sources, paths, labels, strict=True)]


def _write(config: DataConfig, inputs: Sequence[Input], work: Writing, events: Events) -> None:
    found = []
    for index, item in enumerate(inputs):
        events.emit("progress", stage="read", done=index, total=len(inputs), unit="files")
        found.append(
            validate(
                item.path,
                shape=None if item.source.shape == "auto" else item.source.shape,
                fields=item.source.fields,
                templates=item.source.templates,
                group=config.split.field,
                drop_faults=item.source.drop_faults,
                max_row_bytes=config.max_document_bytes,
            )
        )
    events.emit("progress", stage="read", done=len(inputs), total=len(inputs), unit="files")
    sorter = Sorter(config, work.path)
    with sorter.dropped:
        with sorter.shards["train"], sorter.shards["validation"]:
            # What is held out comes first: then it is the training side that gives way.
            pairs = sorted(zip(inputs, found, strict=True), key=lambda pair: pair[0].source.split != "validation")
            for item, validated in pairs:
                sorter.take(item, validated)
        split = balance(work.path, config.split, positions=sorter.positions, texts=sorter.texts, sizes=sorter.sizes)
        twice = overlaps(work.path, alike=config.alike)
        sorter.leave_out(twice)
    sorter.accounts.close()
    gone = np.isin(np.arange(len(split.sides["train"].texts)), [one.number for one in twice])
    result = split.without("train", gone).totals()
    if config.split.validation and not result.sides["validation"].documents:
        raise RhapsodeError(
            f"cannot hold anything out: all examples have the same {config.split.field or 'prompt'}",
            "add examples, or set data.split.validation: 0 to train without measuring",
        )
    report = _report(config, sorter.accounts, result, found)
    (work.path / REPORT).write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    accounts = sorter.accounts
    work.facts["documents"] = {
        "read": accounts.total("read"),
        "kept": accounts.total("kept"),
        "dropped": accounts.total("num_dropped"),
        **{side: result.sides[side].documents for side in SIDES},
    }
    work.facts["examples"] = sorter.family
    work.facts["overlap"] = _told(twice)


def _told(found: Sequence[Overlap]) -> str:
    """What is said of rows that were left out, whenever the corpus is used."""
    if not found:
        return ""
    return f"{len(found):,} examples are left out of training, for they are held out, or nearly: {named(found)}"


def _report(config: DataConfig, accounts: Accounts, result: Balance, found: Sequence[Validated]) -> dict[str, Any]:
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
            "group": config.split.field or "prompt",
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
