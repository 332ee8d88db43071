"""The part of a run's page that tells what it cost, beside what was forecast."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rhapsode.core.events import Event
from rhapsode.core.report import Block, Table
from rhapsode.core.units import format_bytes, format_count, format_joules, format_seconds


@dataclass
class Spent:
    """What all parts of a run together took: seconds by kind, the peaks of memory and disk, energy."""

    seconds_by: dict[str, float]
    seconds: float = 0.0
    tokens_per_second: float | None = None
    memory_bytes: int = 0
    disk_bytes: int = 0
    joules: float = 0.0
    how: str = ""
    is_estimate: bool = False
    parts: int = 0
    torn: int = 0
    """Parts that ended without a last word: what their steps told counts."""


def spent_of(events: Sequence[Event]) -> Spent | None:
    """None where no step was ever taken."""
    total, last, is_open = Spent({}), None, False
    for event in events:
        if event.kind == "begin":
            if is_open and last is not None:
                _add_torn(total, last)
            last, is_open = None, True
        elif event.kind == "step":
            last = event.fields
        elif event.kind == "spent":
            _add(total, event.fields)
            last, is_open = None, False
    if is_open and last is not None:
        _add_torn(total, last)
    return total if total.parts else None


def _add(total: Spent, part: dict[str, Any]) -> None:
    total.parts += 1
    total.seconds += part["seconds"]
    for kind, seconds in part["seconds_by"].items():
        total.seconds_by[kind] = total.seconds_by.get(kind, 0.0) + seconds
    total.tokens_per_second = part["tokens_per_second"] or total.tokens_per_second
    total.memory_bytes = max(total.memory_bytes, part["memory_bytes"])
    total.disk_bytes = max(total.disk_bytes, part["disk_bytes"])
    total.joules += part["joules"]
    total.is_estimate |= part["joules_are"] != "measured"
    total.how = part["joules_how"]


def _add_torn(total: Spent, step: dict[str, Any]) -> None:
    total.parts, total.torn = total.parts + 1, total.torn + 1
    seconds = step.get("seconds_spent", 0.0)
    total.seconds += seconds
    total.seconds_by["steps"] = total.seconds_by.get("steps", 0.0) + seconds
    total.tokens_per_second = total.tokens_per_second or step["tokens_per_second"]
    total.joules += step.get("joules", 0.0)


def cost(events: Sequence[Event]) -> list[Block]:
    """A table of forecast, spent, and the one over the other."""
    planned = next((event.fields for event in reversed(events) if event.kind == "planned"), None)
    spent = spent_of(events)
    if planned is None or spent is None:
        return []
    forecast: dict[str, Any] = planned["forecast"]
    rows = [
        _row("time of the steps", forecast["seconds"], spent.seconds_by.get("steps"), format_seconds),
        _row("time of the looks", None, spent.seconds_by.get("looks"), format_seconds),
        _row("time waited for checkpoints", None, spent.seconds_by.get("saves"), format_seconds),
        _row("tokens a second", forecast["tokens_per_second"], spent.tokens_per_second, format_count),
        _row("memory at most", forecast["memory_bytes"], spent.memory_bytes or None, format_bytes),
        _row("disk for checkpoints at most", forecast["disk_bytes"], spent.disk_bytes or None, format_bytes),
        _row("energy", forecast.get("joules"), spent.joules, format_joules),
    ]
    columns = ("", "forecast", "spent", "ratio")
    return [Table(columns, rows, _caption(spent), numeric=columns[1:])]


def _row(
    name: str, forecast: float | None, spent: float | None, show: Callable[[float], str]
) -> tuple[str, str, str, str]:
    ratio = "" if not forecast or spent is None else f"{spent / forecast:.2f}"
    return name, "" if forecast is None else show(forecast), "" if spent is None else show(spent), ratio


def _caption(spent: Spent) -> str:
    kind = f"an estimate: {spent.how}" if spent.is_estimate else f"measured: {spent.how}"
    parts = f" The run came in {spent.parts} parts, of which all steps count." if spent.parts > 1 else ""
    torn = f" {spent.torn} of them ended without a word: what they did after their last step is unknown."
    return f"What it took. The energy is {kind}.{parts}{torn if spent.torn else ''}"
