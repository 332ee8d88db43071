"""What was read, what was kept and what was not, and why: every document is counted once, on one side.

`read = kept + dropped` holds for every source and format, and `close` insists on it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

EXAMPLES = 3


@dataclass
class Reason:
    """How often, how much, and the first few cases."""

    stage: str
    count: int = 0
    bytes: int = 0
    examples: list[dict[str, str]] = field(default_factory=list)

    def add(self, source: str, detail: str, *, size: int = 0) -> None:
        self.count += 1
        self.bytes += size
        if len(self.examples) < EXAMPLES:
            self.examples.append({"source": source, "detail": detail})


@dataclass
class Tally:
    """The account of one source in one format."""

    files: int = 0
    file_bytes: int = 0
    skipped_files: dict[str, Reason] = field(default_factory=dict)
    read: int = 0
    kept: int = 0
    kept_bytes: int = 0
    repaired: int = 0
    dropped: dict[str, Reason] = field(default_factory=dict)

    @property
    def num_dropped(self) -> int:
        return sum(reason.count for reason in self.dropped.values())

    def drop(self, stage: str, reason: str, *, source: str, detail: str, size: int) -> None:
        self.dropped.setdefault(reason, Reason(stage)).add(source, detail, size=size)

    def skip_file(self, reason: str, *, source: str, detail: str, stage: str = "read") -> None:
        self.skipped_files.setdefault(reason, Reason(stage)).add(source, detail)


class Accounts:
    """A tally for each source and format."""

    def __init__(self) -> None:
        self._tallies: dict[tuple[str, str], Tally] = {}

    def of(self, label: str, format_: str) -> Tally:
        return self._tallies.setdefault((label, format_), Tally())

    def total(self, name: str) -> int:
        return sum(getattr(tally, name) for tally in self._tallies.values())

    def close(self) -> None:
        for key, tally in self._tallies.items():
            assert tally.read == tally.kept + tally.num_dropped, f"{key}: {tally.read} documents are not accounted for"

    def dropped(self) -> dict[str, Any]:
        """Every reason over all sources, the most frequent first."""
        return _merged(reasons.dropped for reasons in self._tallies.values())

    def skipped_files(self) -> dict[str, Any]:
        return _merged(reasons.skipped_files for reasons in self._tallies.values())

    def rows(self) -> list[dict[str, Any]]:
        """One row for each source and format, for the report."""
        return [
            {
                "source": label,
                "format": format_,
                "files": tally.files,
                "file_bytes": tally.file_bytes,
                "skipped_files": _merged([tally.skipped_files]),
                "read": tally.read,
                "kept": tally.kept,
                "kept_bytes": tally.kept_bytes,
                "repaired": tally.repaired,
                "dropped": tally.num_dropped,
                "dropped_by_reason": _merged([tally.dropped]),
            }
            for (label, format_), tally in sorted(self._tallies.items())
        ]


def _merged(all_reasons: Any) -> dict[str, Any]:
    merged: dict[str, Reason] = {}
    for name, reason in _items(all_reasons):
        into = merged.setdefault(name, Reason(reason.stage))
        into.count += reason.count
        into.bytes += reason.bytes
        into.examples += reason.examples[: EXAMPLES - len(into.examples)]
    ordered = sorted(merged.items(), key=lambda item: (-item[1].count, item[0]))
    return {name: {"stage": r.stage, "count": r.count, "bytes": r.bytes, "examples": r.examples} for name, r in ordered}


def _items(all_reasons: Any) -> Iterator[tuple[str, Reason]]:
    for reasons in all_reasons:
        yield from reasons.items()
