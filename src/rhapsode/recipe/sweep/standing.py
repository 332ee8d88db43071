"""How the runs of a sweep stand to each other, read from what each left in its own directory.

A run counts as measured when its report is that of the plan as it is now. The difference from the best is taken in
pairs where both measured the same held-out documents. Runs that differ in seeds alone are one setting, tried several
times.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rhapsode.core.events import Event, read_events
from rhapsode.evaluate.difference import Difference, difference
from rhapsode.evaluate.evaluation import Evaluation, from_json
from rhapsode.evaluate.repeats import Repeats, repeats
from rhapsode.evaluate.task_evaluation import TaskEvaluation
from rhapsode.evaluate.task_evaluation import from_json as task_from_json
from rhapsode.recipe.layout import Layout
from rhapsode.recipe.sweep.members import Member, Sweep


class Planned(NamedTuple):
    """A run before it is trained; `seconds` and the bytes are its forecast."""

    member: Member
    hash: str
    parameters: int
    steps: int
    seconds: float
    tokens_per_second: float
    memory_bytes: int
    disk_bytes: int

    @property
    def name(self) -> str:
        return self.member.name


class Look(NamedTuple):
    """Bits per byte of some held-out rows after so many trained tokens."""

    tokens: int
    bits_per_byte: float


@dataclass(frozen=True)
class Outcome:
    """What has become of a run. `failure` says why it ended early; it may be gone on with."""

    planned: Planned
    steps: int
    tokens: int
    seconds: float
    looks: tuple[Look, ...]
    evaluation: Evaluation | None
    task: TaskEvaluation | None
    failure: str

    @property
    def name(self) -> str:
        return self.planned.name

    @property
    def state(self) -> str:
        if self.evaluation is not None:
            return "measured"
        if self.failure:
            return "failed"
        return "trained" if self.steps == self.planned.steps else "to do"

    @property
    def gate_passed(self) -> bool | None:
        """Whether bits and answers are what is asked; None where nothing is."""
        gates = [one.gate for one in (self.evaluation, self.task) if one is not None and one.gate is not None]
        return all(gate.passed for gate in gates) if gates else None

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds if self.seconds else 0.0

    @property
    def bits_per_byte(self) -> float:
        """Those of the evaluation, else of the last look; infinite where neither gives a number."""
        if self.evaluation is not None:
            return self.evaluation.model.bits_per_byte
        last = self.looks[-1].bits_per_byte if self.looks else math.inf
        return math.inf if math.isnan(last) else last


class Group(NamedTuple):
    """Measured runs that differ in seeds alone."""

    values: dict[str, Any]
    repeats: Repeats


@dataclass(frozen=True)
class Standing:
    """All runs in the order of the sweep, the best of those that are measured, and how far others are behind it."""

    sweep: Sweep
    outcomes: tuple[Outcome, ...]
    best: Outcome | None
    behind: Mapping[str, Difference]

    @property
    def ranked(self) -> list[Outcome]:
        """The best first, then what is not measured."""
        return sorted(self.outcomes, key=lambda o: (o.evaluation is None, o.bits_per_byte))

    @property
    def confidence(self) -> float:
        """Share of the intervals that hold the true value."""
        return self.sweep.members[0].loaded.recipe.evaluate.confidence

    @property
    def groups(self) -> list[Group]:
        """Settings, the best mean first; none where no setting was tried twice."""
        kept = [key for key in self.sweep.labels if key not in self.sweep.seeds]
        found: dict[str, tuple[dict[str, Any], list[float]]] = {}
        for one in self.outcomes:
            if one.evaluation is not None:
                values = {key: one.planned.member.values[key] for key in kept}
                found.setdefault(json.dumps(values), (values, []))[1].append(one.bits_per_byte)
        if all(len(bits) < 2 for _, bits in found.values()):
            return []
        groups = [Group(values, repeats(bits, confidence=self.confidence)) for values, bits in found.values()]
        return sorted(groups, key=lambda group: group.repeats.mean)

    def as_json(self) -> dict[str, Any]:
        return {
            "sweep": self.sweep.name,
            "keys": list(self.sweep.labels),
            "best": self.best.name if self.best else None,
            "runs": [self._run_as_json(one) for one in self.outcomes],
            "groups": [{"values": group.values, **group.repeats._asdict()} for group in self.groups],
        }

    def _run_as_json(self, one: Outcome) -> dict[str, Any]:
        planned, evaluation, behind = one.planned, one.evaluation, self.behind.get(one.name)
        measured = None
        if evaluation is not None:
            row = evaluation.model
            measured = {
                "bits_per_byte": row.bits_per_byte,
                "low": row.low,
                "high": row.high,
                "confidence": evaluation.confidence,
                "documents": row.documents,
                "behind_best": {**behind._asdict(), "is_none": behind.is_none} if behind else None,
                "gate_passed": one.gate_passed,
            }
        return {
            "name": one.name,
            "values": planned.member.values,
            "state": one.state,
            "failure": one.failure,
            "plan": planned.hash,
            "parameters": planned.parameters,
            "steps": one.steps,
            "tokens": one.tokens,
            "seconds": round(one.seconds, 1),
            "tokens_per_second": round(one.tokens_per_second, 1),
            "last_look": one.looks[-1].bits_per_byte if one.looks and math.isfinite(one.bits_per_byte) else None,
            "measured": measured,
        }


def stand(sweep: Sweep, planned: Sequence[Planned], *, layout: Layout, failures: Mapping[str, str]) -> Standing:
    """Read all of it anew.

    Args:
        failures: why runs ended early, by name.
    """
    outcomes = tuple(_outcome(one, layout.runs / one.name, failures.get(one.name, "")) for one in planned)
    measured = {one.name: one.evaluation for one in outcomes if one.evaluation is not None}
    best = min((one for one in outcomes if one.name in measured), key=lambda one: one.bits_per_byte, default=None)
    if best is None:
        return Standing(sweep, outcomes, None, {})
    behind = {name: difference(found, measured[best.name]) for name, found in measured.items() if name != best.name}
    return Standing(sweep, outcomes, best, behind)


class Measured(NamedTuple):
    """What a run's report tells: bits per byte, and where answers were judged, what they are worth."""

    evaluation: Evaluation | None
    task: TaskEvaluation | None


def read_measured(run_dir: Path, *, plan: str) -> Measured:
    """What was measured under this plan, if it was."""
    path = run_dir / "report.json"
    report = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if report.get("plan") != plan:
        return Measured(None, None)
    evaluation, task = report.get("evaluation"), report.get("task")
    return Measured(evaluation and from_json(evaluation), task and task_from_json(task))


def _outcome(planned: Planned, run_dir: Path, failure: str) -> Outcome:
    journal = run_dir / "events.jsonl"
    events = read_events(journal) if journal.is_file() else []
    steps, looks = _by_step(events, "step"), _by_step(events, "validation")
    tokens = {0: 0, **{at: fields["tokens"] for at, fields in steps.items()}}
    last = max(steps, default=0)
    return Outcome(
        planned=planned,
        steps=last,
        tokens=tokens[last],
        seconds=sum(fields["seconds"] for fields in steps.values()),
        looks=tuple(Look(tokens[at], _number(f["bits_per_byte"])) for at, f in looks.items() if at in tokens),
        **read_measured(run_dir, plan=planned.hash)._asdict(),
        failure=failure,
    )


def _by_step(events: Sequence[Event], kind: str) -> dict[int, dict[str, Any]]:
    """Fields of the events of a kind by step; after a resume the later one counts."""
    found = {event.fields["step"]: event.fields for event in events if event.kind == kind}
    return dict(sorted(found.items()))


def _number(value: float | None) -> float:
    """JSON has no infinity: what was not finite is absent there."""
    return math.nan if value is None else value
