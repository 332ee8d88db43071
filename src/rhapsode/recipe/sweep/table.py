"""The tables of a sweep as rows of text: the terminal and the page show the same."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from rhapsode.core.units import format_count, format_seconds
from rhapsode.evaluate.difference import Difference
from rhapsode.recipe.sweep.members import Sweep, shown
from rhapsode.recipe.sweep.standing import Outcome, Planned, Standing

LONGEST = 40
"""Characters of a value."""
FIGURES = ("parameters", "last look", "bits/byte", "tokens", "time", "tokens/s")
OTHER_SEEDS = "the means over seeds are the safer reading."
NO_OTHER_SEEDS = "an interval over documents does not tell what another seed would give."


class Rows(NamedTuple):
    """Columns by name, and which of them hold figures."""

    columns: list[str]
    figures: list[str]
    rows: list[list[str]]


def plan_rows(sweep: Sweep, planned: Sequence[Planned]) -> Rows:
    """What differs, and what each run will take."""
    figures = ["parameters", "steps", "time", "tokens/s"]
    rows = [
        [
            *_values(sweep, one),
            format_count(one.parameters),
            f"{one.steps:,}",
            format_seconds(one.seconds),
            format_count(one.tokens_per_second),
        ]
        for one in planned
    ]
    return Rows([*sweep.labels.values(), *figures], figures, rows)


def result_rows(standing: Standing) -> Rows:
    """What differs, how good it is, how far behind the best, and what it took; the best first."""
    sweep, ranked = standing.sweep, standing.ranked
    columns: dict[str, list[str]] = {
        label: [_value(one.planned, key) for one in ranked] for key, label in sweep.labels.items()
    }
    if len({one.planned.parameters for one in ranked}) > 1:
        columns["parameters"] = [format_count(one.planned.parameters) for one in ranked]
    if standing.best is None:
        columns["state"] = [one.state for one in ranked]
        columns["last look"] = [
            f"{one.bits_per_byte:.4f}" if math.isfinite(one.bits_per_byte) else "" for one in ranked
        ]
    else:
        columns["bits/byte"] = [_bits(one) for one in ranked]
        columns[f"{standing.confidence:.0%} interval"] = [_interval(one) for one in ranked]
        columns["behind the best"] = [_behind(one, standing) for one in ranked]
        if any(one.gate_passed is not None for one in ranked):
            columns["gate"] = [_gate(one) for one in ranked]
    columns["tokens"] = [format_count(one.tokens) for one in ranked]
    columns["time"] = [format_seconds(one.seconds) for one in ranked]
    columns["tokens/s"] = [format_count(one.tokens_per_second) for one in ranked]
    figures = [name for name in columns if name in FIGURES]
    return Rows(list(columns), figures, [list(row) for row in zip(*columns.values(), strict=True)])


def group_rows(standing: Standing) -> Rows:
    """Each setting with the mean of its runs; empty where no setting was tried twice."""
    sweep = standing.sweep
    keys = {key: label for key, label in sweep.labels.items() if key not in sweep.seeds}
    if not (groups := standing.groups):
        return Rows([], [], [])
    rows = [
        [
            *(shortened(group.values[key]) for key in keys),
            str(group.repeats.runs),
            f"{group.repeats.mean:.4f}",
            "" if group.repeats.spread is None else f"{group.repeats.spread:.4f}",
            _range(group.repeats.low, group.repeats.high) or "only one run",
        ]
        for group in groups
    ]
    figures = ["runs", "mean", "spread"]
    return Rows([*keys.values(), *figures, f"{standing.confidence:.0%} interval over seeds"], figures, rows)


def remarks(standing: Standing) -> list[str]:
    """What a reader must know to read the differences, a sentence each."""
    if not (found := list(standing.behind.values())):
        return []
    said = [_told_apart(found)]
    if all(one.is_paired for one in found):
        said.append("Differences are taken in pairs: each run and the best read the same held-out documents.")
    else:
        said.append(
            "The runs hold out different documents, so differences are not in pairs: the intervals are wider, and "
            "part of a difference may be that of the documents."
        )
    luck = f"The best of {len(found) + 1} was picked for its result, so part of a small lead is luck"
    said.append(f"{luck}: {OTHER_SEEDS if standing.groups else NO_OTHER_SEEDS}")
    return said


def headline(standing: Standing) -> str:
    """Which is best, after a colon."""
    if standing.best is None:
        return "nothing is measured yet"
    return f"the best is {standing.best.name}, with {standing.best.bits_per_byte:.4f} bits per byte"


def shortened(value: object) -> str:
    text = shown(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def _told_apart(found: Sequence[Difference]) -> str:
    none = sum(one.is_none for one in found)
    if any(one.low is None for one in found):
        return "There are too few held-out documents for intervals, so no difference is certain."
    if not none:
        return "All others are behind the best by more than other held-out documents could explain."
    which = "The other shows" if len(found) == 1 else f"Of the {len(found)} others, {none} show{'s' * (none == 1)}"
    return f"{which} no difference from the best: other held-out documents of this kind could have turned it round."


def _values(sweep: Sweep, planned: Planned) -> list[str]:
    return [_value(planned, key) for key in sweep.labels]


def _value(planned: Planned, key: str) -> str:
    return shortened(planned.member.values[key])


def _bits(one: Outcome) -> str:
    return one.state if one.evaluation is None else f"{one.bits_per_byte:.4f}"


def _interval(one: Outcome) -> str:
    if one.evaluation is None:
        return ""
    row = one.evaluation.model
    return _range(row.low, row.high, digits=3) or "too few documents"


def _behind(one: Outcome, standing: Standing) -> str:
    """The difference with its interval, or that there is none to speak of."""
    if one is standing.best:
        return "the best"
    if (found := standing.behind.get(one.name)) is None:
        return ""
    range_ = _range(found.low, found.high)
    word = "no difference" if found.is_none else f"{found.value:+.4f}"
    return f"{word} ({range_ or 'too few documents'})"


def _gate(one: Outcome) -> str:
    return "" if one.gate_passed is None else "passed" if one.gate_passed else "not passed"


def _range(low: float | None, high: float | None, *, digits: int = 4) -> str:
    return "" if low is None or high is None else f"{low:.{digits}f} to {high:.{digits}f}"
