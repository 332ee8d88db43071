"""What became of a replay: one line a check, what is wrong by its name, and what could not be compared."""

import contextlib
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

from rhapsode.conformance.diagnosis import ADVICE, Kind, Mismatch
from rhapsode.conformance.readers.reader import CannotAnswer
from rhapsode.core.errors import RhapsodeError, VerificationMismatch

SHOWN = 100
"""Mismatches that are listed for a program; the checks count them all."""

Verdict = Literal["holds", "differs", "not compared"]


class Figure(NamedTuple):
    """Something measured and how large it may be."""

    name: str
    value: float
    bound: float

    def as_json(self) -> dict[str, Any]:
        """JSON has no infinity: what is infinitely far off has no value."""
        return {"name": self.name, "value": self.value if math.isfinite(self.value) else None, "bound": self.bound}


class Check(NamedTuple):
    """One kind of question: how many of the cases could be compared, and whether those held."""

    name: str
    compared: int
    of: int
    differing: int
    figure: Figure | None = None

    @property
    def verdict(self) -> Verdict:
        return "differs" if self.differing else "holds" if self.compared else "not compared"

    def as_json(self) -> dict[str, Any]:
        return {
            "check": self.name,
            "verdict": self.verdict,
            "compared": self.compared,
            "of": self.of,
            "differing": self.differing,
            "figure": self.figure and self.figure.as_json(),
        }


class Report(NamedTuple):
    """One reader's answers, held against the evidence."""

    reader: str
    checks: tuple[Check, ...]
    mismatches: tuple[Mismatch, ...]
    notes: tuple[str, ...]

    @property
    def kinds(self) -> list[str]:
        """Names of what is wrong, each once."""
        return list(dict.fromkeys(mismatch.kind for mismatch in self.mismatches))

    def as_json(self) -> dict[str, Any]:
        return {
            "reader": self.reader,
            "holds": not self.mismatches,
            "checks": [check.as_json() for check in self.checks],
            "mismatches": [mismatch._asdict() for mismatch in self.mismatches[:SHOWN]],
            "notes": list(self.notes),
        }


class Tally:
    """Counts the cases of one check."""

    def __init__(self, name: str, *, of: int) -> None:
        self.name, self.of = name, of
        self.compared = 0
        self.mismatches: list[Mismatch] = []
        self.figure: Figure | None = None
        self._reasons: Counter[str] = Counter()

    def skip(self, reason: str) -> None:
        """A case that is not compared, and why."""
        self._reasons[reason] += 1

    def add(self, mismatch: Mismatch | None) -> None:
        """A case that was compared."""
        self.compared += 1
        if mismatch is not None:
            self.mismatches.append(mismatch)

    @contextlib.contextmanager
    def asking(self, where: str, *, failure: Kind | None = None) -> Iterator[None]:
        """What the reader cannot answer is not compared; that it fails is a mismatch if `failure` names one."""
        try:
            yield
        except CannotAnswer as error:
            self.skip(error.message)
        except RhapsodeError as error:
            if failure is None:
                raise
            self.add(Mismatch(failure, where, f"the reader fails: {error.message}"))

    @property
    def notes(self) -> list[str]:
        return [f"{self.name}: {count} of {self.of} not compared: {why}" for why, count in self._reasons.items()]

    def check(self) -> Check:
        return Check(self.name, self.compared, self.of, len(self.mismatches), self.figure)


def make_report(reader: str, tallies: Sequence[Tally], notes: Sequence[str] = ()) -> Report:
    asked = [tally for tally in tallies if tally.of]
    return Report(
        reader,
        tuple(tally.check() for tally in asked),
        tuple(mismatch for tally in asked for mismatch in tally.mismatches),
        (*(note for tally in asked for note in tally.notes), *notes),
    )


def require(reports: Sequence[Report], *, model: str) -> None:
    """Raises VerificationMismatch: a reader does not bear the evidence out; says which, and by name what is wrong."""
    wrong = [report for report in reports if report.mismatches]
    if not wrong:
        return
    lines = [
        f"{report.reader} does not read {model} as its evidence says: {', '.join(report.kinds)}" for report in wrong
    ]
    first = {mismatch.kind: mismatch for report in reversed(wrong) for mismatch in reversed(report.mismatches)}
    lines += [f"{kind}: {mismatch.where}: {mismatch.what}" for kind, mismatch in reversed(first.items())]
    raise VerificationMismatch("\n".join(lines), "; ".join(ADVICE[kind] for kind in reversed(first)))
