"""Sources to a corpus: found, fingerprinted, read, cleaned, deduplicated, split, and written once for each key.

The key is a hash of the configuration, of every input file's name and bytes, and of the code. So a corpus is never
stale, equal inputs give equal bytes, and what is already there is used again.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rhapsode.core.errors import RhapsodeError
from rhapsode.core.events import Events
from rhapsode.core.manifest import Writing, is_complete, read_manifest, value_sha256, writing
from rhapsode.corpus.accounting import Accounts
from rhapsode.corpus.balance import Balance, balance
from rhapsode.corpus.config import DataConfig
from rhapsode.corpus.digests import code_sha256, library_versions
from rhapsode.corpus.documents import KIND, REPORT
from rhapsode.corpus.pipeline import Pipeline
from rhapsode.corpus.progress import Progress
from rhapsode.corpus.readers.delimited import NO_COLUMN
from rhapsode.corpus.readers.fields import NO_TEXT
from rhapsode.corpus.readers.record import ReadError
from rhapsode.corpus.reading import Fingerprint, fingerprint
from rhapsode.corpus.sources import InputFile, Passed, find
from rhapsode.corpus.split import SIDES, group_of

KEY_CHARS = 16


class Inputs(NamedTuple):
    """The files with what they were, the ones passed over, and a digest for each source."""

    files: list[tuple[InputFile, Fingerprint]]
    passed: list[Passed]
    digests: dict[str, str]


def prepare(config: DataConfig, *, root: Path, base: Path, events: Events) -> Path:
    """Make the corpus, or find it made.

    Args:
        config: the recipe's `data:` section; its `tokens:` have no part in this.
        root: where corpora lie, each in a folder named by its key.
        base: the folder that relative source paths start from.
        events: hears "progress" (stages "hash" and "read") and, at the end, "corpus".

    Raises:
        RhapsodeError: a source is missing or empty, a file changed while it was read, nothing is left, nothing can be
            held out, or the disk is full. Nothing half-written is left behind.
    """
    inputs = _fingerprinted(config, base, events)
    recipe = config.model_dump(mode="json", exclude={"tokens"})
    facts = {"code": code_sha256(), "libraries": library_versions()}
    key = value_sha256([recipe, inputs.digests, [passed[1:] for passed in inputs.passed], facts])
    corpus = root / key[:KEY_CHARS]
    is_reused = is_complete(corpus)
    if not is_reused:
        _refuse_one_group(config, [file for file, _ in inputs.files])
        with writing(corpus, kind=KIND, inputs=inputs.digests, recipe=recipe, facts=facts) as work:
            _write(config, inputs, work, events)
    counts = read_manifest(corpus, kind=KIND).facts["documents"]
    events.emit("corpus", path=str(corpus), reused=is_reused, **counts)
    return corpus


def _fingerprinted(config: DataConfig, base: Path, events: Events) -> Inputs:
    """A digest of every file. One that cannot be read even for that is passed over."""
    found = find(config.sources, base=base)
    progress = Progress(events, stage="hash", total=sum(file.size for file in found.files), unit="bytes")
    files, passed = [], list(found.passed)
    for file in found.files:
        try:
            files.append((file, fingerprint(file, count=progress.advance)))
        except ReadError as error:
            passed.append(Passed(file.source, file.label, file.place, error.reason, error.detail))
    progress.finish()
    digests = {
        label: value_sha256([[file.place, was.sha256] for file, was in files if file.label == label])
        for label in found.labels
    }
    return Inputs(files, passed, digests)


def _write(config: DataConfig, inputs: Inputs, work: Writing, events: Events) -> None:
    progress = Progress(events, stage="read", total=sum(file.size for file, _ in inputs.files), unit="bytes")
    with Pipeline(config, work.path, progress=progress) as pipeline:
        for passed in inputs.passed:
            pipeline.skip(passed)
        for file, was in inputs.files:
            pipeline.take(file, was)
    progress.finish()
    accounts = pipeline.accounts
    if not accounts.total("kept"):
        raise _nothing_left(accounts)
    split = balance(work.path, config.split, positions=pipeline.positions, texts=pipeline.texts, sizes=pipeline.sizes)
    result = split.totals()
    if config.split.validation and not result.sides["validation"].documents:
        raise _one_group(config.split.group)
    report = _report(config, accounts, result, num_passed=len(inputs.passed))
    (work.path / REPORT).write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    work.facts["documents"] = {
        "read": accounts.total("read"),
        "kept": accounts.total("kept"),
        "dropped": accounts.total("num_dropped"),
        **{side: result.sides[side].documents for side in SIDES},
    }


def _report(config: DataConfig, accounts: Accounts, result: Balance, *, num_passed: int) -> dict[str, Any]:
    skipped = accounts.skipped_files()
    num_skipped = sum(reason["count"] for reason in skipped.values())
    return {
        "files": {
            "found": accounts.total("files") + num_skipped,
            "read": accounts.total("files"),
            "skipped": num_skipped,
            "passed_over": num_passed,
            "bytes": accounts.total("file_bytes"),
            "skipped_by_reason": skipped,
        },
        "documents": {
            "read": accounts.total("read"),
            "kept": accounts.total("kept"),
            "kept_bytes": accounts.total("kept_bytes"),
            "dropped": accounts.total("num_dropped"),
            "dropped_by_reason": accounts.dropped(),
        },
        "split": {
            "group": config.split.group,
            **{side: result.sides[side]._asdict() for side in SIDES},
            "group_moved_to_fill_a_side": result.has_moved,
            "texts_on_both_sides": result.shared_texts,
        },
        "sources": accounts.rows(),
    }


def _refuse_one_group(config: DataConfig, files: Sequence[InputFile]) -> None:
    """Before any work: with one file, a split by file can hold nothing out."""
    if config.split.validation and config.split.group != "document":
        groups = {group_of(config.split, place=file.place, label=file.label, text_digest=b"") for file in files}
        if len(groups) < 2:
            raise _one_group(config.split.group)


def _one_group(group: str) -> RhapsodeError:
    other = "" if group == "document" else "set data.split.group: document, "
    return RhapsodeError(
        f"cannot hold anything out: all documents are in one group (data.split.group: {group})",
        f"{other}add sources, or set data.split.validation: 0 to train without measuring",
    )


def _nothing_left(accounts: Accounts) -> RhapsodeError:
    reasons = {**accounts.dropped(), **accounts.skipped_files()}
    lines = [
        f"  {reason['count']} {name} (for example {reason['examples'][0]['source']}: {reason['examples'][0]['detail']})"
        for name, reason in list(reasons.items())[:5]
    ]
    hint = "thresholds are in data.clean; null turns one off"
    if NO_TEXT in reasons or NO_COLUMN in reasons:
        hint = "name the field that holds the text in data.sources[...].text_field"
    return RhapsodeError("\n".join([f"nothing is left of {accounts.total('read')} documents:", *lines]), hint)
