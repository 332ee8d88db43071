"""One document at a time: read, repair, judge, compare, and put where it belongs."""

import contextlib
import json
from array import array
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from rhapsode.corpus.accounting import Accounts, Tally
from rhapsode.corpus.config import DataConfig
from rhapsode.corpus.deduplicate import Duplicates, text_digest
from rhapsode.corpus.documents import Document, Kind, document_id
from rhapsode.corpus.filters import Failure, active, first_failure
from rhapsode.corpus.measures import Body
from rhapsode.corpus.normalise import encodable, repair
from rhapsode.corpus.progress import Progress
from rhapsode.corpus.readers.record import Flaw, ReadError, Record
from rhapsode.corpus.reading import Fingerprint, records, refuse_changed
from rhapsode.corpus.shards import DOCUMENTS, DROPPED, FILES, Shards
from rhapsode.corpus.sources import InputFile, Passed
from rhapsode.corpus.split import SIDES, Side, group_of, position, side_of

Stage = Literal["read", "clean", "deduplicate"]

EMPTY = Failure("empty", "no characters but spaces")
DUPLICATE = "exact duplicate"


class Pipeline:
    """Takes files, writes shards, keeps the accounts. Used as a context; the shards are complete at its end.

    `positions`, `texts` and `sizes` hold, for each side and in the order of its rows, the place of a document's group
    in the split, 64 bits of its text's digest, and its length in bytes.
    """

    def __init__(self, config: DataConfig, folder: Path, *, progress: Progress) -> None:
        self.accounts = Accounts()
        self.positions: dict[Side, array[int]] = {side: array("Q") for side in SIDES}
        self.sizes: dict[Side, array[int]] = {side: array("Q") for side in SIDES}
        self.texts: dict[Side, array[int]] = {side: array("Q") for side in SIDES}
        self._config = config
        self._progress = progress
        self._has_prefix = [bool(source.name) or len(config.sources) > 1 for source in config.sources]
        kinds: tuple[Kind, Kind] = ("prose", "code")
        self._rules = {kind: active(config.clean, kind=kind) for kind in kinds}
        self._duplicates = Duplicates()
        self._shards: dict[Side, Shards] = {side: Shards(folder, side, DOCUMENTS) for side in SIDES}
        self._dropped = Shards(folder / "dropped", "part", DROPPED)
        self._files = Shards(folder, "files", FILES)
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        for shards in (*self._shards.values(), self._dropped, self._files):
            self._stack.enter_context(shards)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)
        if error is None:
            self.accounts.close()
            assert self.accounts.total("kept") == sum(shards.num_rows for shards in self._shards.values())
            assert self.accounts.total("num_dropped") == self._dropped.num_rows

    def take(self, file: InputFile, was: Fingerprint) -> None:
        """All documents of a file.

        Raises:
            RhapsodeError: the file is no longer what it was.
        """
        tally = self.accounts.of(file.label, file.format.name)
        before = (tally.read, tally.kept)
        source = self._config.sources[file.source]
        reason = detail = ""
        found = records(file, source=source, max_bytes=self._config.max_document_bytes, count=self._progress.advance)
        try:
            for item in found:
                tally.read += 1
                if isinstance(item, Flaw):
                    self._put_aside(tally, file, item, source.licence)
                else:
                    self._judge(tally, file, item, source.licence)
        except ReadError as error:
            reason, detail = error.reason, error.detail
            tally.skip_file(reason, source=self._name(file, ""), detail=detail)
        else:
            tally.files += 1
            tally.file_bytes += file.size
        refuse_changed(file, was)
        counts = (tally.read - before[0], tally.kept - before[1])
        self._add_file(file.label, file.place, file.format.name, file.size, was.sha256, reason, detail, *counts)

    def skip(self, item: Passed) -> None:
        """A file or a folder that is not read."""
        name = self._prefix(item.source, item.label, item.place) + item.place
        self.accounts.of(item.label, "").skip_file(item.reason, source=name, detail=item.detail, stage="find")
        self._add_file(item.label, item.place, "", 0, "", item.reason, item.detail, 0, 0)

    def _put_aside(self, tally: Tally, file: InputFile, flaw: Flaw, licence: str) -> None:
        text = encodable(flaw.text)
        id_ = document_id(f"{file.label}/{file.place}", flaw.span, text)
        self._drop(tally, Document(id_, text, self._name(file, flaw.span), licence, {}), flaw, stage="read")

    def _judge(self, tally: Tally, file: InputFile, record: Record, licence: str) -> None:
        text = encodable(record.text)
        if self._config.clean.repair_unicode:
            repaired = repair(text, kind=record.kind)
            tally.repaired += repaired != text
            text = repaired
        body = Body(text)
        document = Document(
            document_id(f"{file.label}/{file.place}", record.span, text),
            text,
            self._name(file, record.span),
            encodable(record.licence or licence),
            record.meta,
        )
        failure = first_failure(body, self._rules[record.kind]) if body.squeezed else EMPTY
        if failure:
            self._drop(tally, document, failure, stage="clean")
            return
        digest = text_digest(body.squeezed)
        if self._config.deduplicate == "exact" and (first := self._duplicates.original(digest, id_=document.id)):
            self._drop(tally, document, Failure(DUPLICATE, f"of document {first}"), stage="deduplicate")
            return
        self._keep(tally, file, document, digest=digest, size=len(body.data))

    def _keep(self, tally: Tally, file: InputFile, document: Document, *, digest: bytes, size: int) -> None:
        split = self._config.split
        group = group_of(split, place=file.place, label=file.label, text_digest=digest)
        at = position(group, seed=split.seed)
        side = side_of(at, validation=split.validation)
        self.positions[side].append(at)
        self.texts[side].append(int.from_bytes(digest[:8]))
        self.sizes[side].append(size)
        self._shards[side].add(_row(document), size=size)
        tally.kept += 1
        tally.kept_bytes += size

    def _drop(self, tally: Tally, document: Document, why: Failure | Flaw, *, stage: Stage) -> None:
        size = len(document.text.encode())
        self._dropped.add((*_row(document), stage, why.reason, why.detail), size=size)
        tally.drop(stage, why.reason, source=document.source, detail=why.detail, size=size)

    def _add_file(self, *row: str | int) -> None:
        self._files.add(row, size=100)

    def _name(self, file: InputFile, span: str) -> str:
        return f"{self._prefix(file.source, file.label, file.place)}{file.place}{'#' if span else ''}{span}"

    def _prefix(self, source: int, label: str, place: str) -> str:
        return f"{label}/" if self._has_prefix[source] and label != place else ""


def _row(document: Document) -> tuple[str, ...]:
    meta = json.dumps(document.meta, sort_keys=True, default=str)
    return (document.id, document.text, document.source, document.licence, meta)
