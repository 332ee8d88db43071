"""The page of a sweep: one table of all runs, and their learning curves side by side."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from rhapsode import __version__
from rhapsode.core.report import (
    Block,
    Details,
    Figure,
    Figures,
    Heading,
    Note,
    Paragraph,
    Report,
    Table,
)
from rhapsode.core.report_chart import STYLES, Series, line_chart
from rhapsode.core.units import format_bytes, format_seconds
from rhapsode.recipe.sweep.standing import Outcome, Standing
from rhapsode.recipe.sweep.table import Rows, group_rows, headline, remarks, result_rows, shortened

NO_BREAK = "\u00a0"


def write_page(path: Path, standing: Standing) -> None:
    blocks: list[Block] = [*_result(standing), *_seeds(standing), *_curves(standing), *_runs(standing)]
    sweep = standing.sweep
    footer = f"Rhapsode {__version__}. Each run is an ordinary one, with a report of its own."
    Report(f"{sweep.name}: {len(sweep.members)} runs", blocks, subtitle=sweep.purpose, footer=footer).write(path)


def _result(standing: Standing) -> Iterator[Block]:
    seconds = format_seconds(sum(one.seconds for one in standing.outcomes))
    done = sum(one.evaluation is not None for one in standing.outcomes)
    figures = [Figure("runs measured", f"{done} of {len(standing.outcomes)}"), Figure("training time", seconds)]
    if (best := standing.best) is not None and best.evaluation is not None:
        row = best.evaluation.model
        interval = "too few documents for an interval"
        if row.low is not None and row.high is not None:
            interval = f"{standing.confidence:.0%}: {row.low:.3f} to {row.high:.3f}"
        figures.insert(0, Figure("bits per byte of the best", f"{row.bits_per_byte:.3f}", interval))
    yield Figures(figures)
    told, *more = remarks(standing) or [""]
    yield Note(told, title=headline(standing).capitalize())
    yield Heading("All runs")
    caption = "Fewer bits per byte of held-out text is better; last look is that of the training."
    if best is not None and best.evaluation is not None:
        row = best.evaluation.model
        caption = f"Bits per byte of {format_bytes(row.bytes)} in {row.documents} held-out documents: fewer is better."
    yield _table(result_rows(standing), caption, strong=None if best is None else 0)
    yield from (Paragraph(sentence) for sentence in more)
    for one in standing.outcomes:
        if one.failure:
            yield Note(one.failure, title=f"{one.name} failed", tone="bad")


def _seeds(standing: Standing) -> Iterator[Block]:
    rows = group_rows(standing)
    if rows.rows:
        yield Heading("Over seeds")
        yield Paragraph(
            "Runs that differ in seeds alone are one setting. The spread is the standard deviation of its runs; the "
            "interval is of their mean, and wide where there are few."
        )
        yield _table(rows, "Bits per byte of each setting")


def _table(rows: Rows, caption: str, *, strong: int | None = None) -> Table:
    """An interval is broken at one place, or at none where it stands in brackets."""
    cells = [[re.sub(r"\(.* to |(?<=to) ", _unbroken, cell) for cell in row] for row in rows.rows]
    return Table(rows.columns, cells, caption, numeric=rows.figures, strong=strong)


def _unbroken(found: re.Match[str]) -> str:
    return found[0].replace(" ", NO_BREAK)


def _curves(standing: Standing) -> Iterator[Block]:
    """As many lines as there are styles in a chart; where there are more runs, the best one is in each."""
    drawn = [one for one in standing.ranked if one.looks]
    if not drawn:
        return
    yield Heading("How they learned")
    yield _chart(drawn[:STYLES], standing, title="Held-out text while training")
    rest, room = drawn[STYLES:], STYLES - 1
    charts: list[Block] = [
        _chart([drawn[0], *rest[at : at + room]], standing, title="Held-out text while training, beside the best")
        for at in range(0, len(rest), room)
    ]
    if charts:
        yield Details(f"The other {len(rest)} runs", charts)


def _chart(drawn: Sequence[Outcome], standing: Standing, *, title: str) -> Block:
    most = max(one.looks[-1].tokens for one in drawn)
    unit, size = ("million tokens", 1_000_000) if most >= 1_000_000 else ("thousand tokens", 1_000)
    series = [
        Series(_label(one, standing), [look.tokens / size for look in one.looks], [x.bits_per_byte for x in one.looks])
        for one in drawn
    ]
    return line_chart(series, x_label=unit, y_label="bits per byte", title=title)


def _label(one: Outcome, standing: Standing) -> str:
    """What makes it differ: "learning_rate 0.01, seed 1"."""
    labels = standing.sweep.labels
    return ", ".join(f"{label} {shortened(one.planned.member.values[key])}" for key, label in labels.items())


def _runs(standing: Standing) -> Iterator[Block]:
    """Names too: one that is a hash does not tell its values."""
    rows = [
        (one.name, _label(one, standing), one.state, f"{one.steps:,} of {one.planned.steps:,}", one.planned.hash[:12])
        for one in standing.outcomes
    ]
    yield Heading("Where they are")
    yield Paragraph("Each run has a directory of its name beside that of the sweep, with models and a report.html.")
    yield Table(("run", "what differs", "state", "steps", "plan"), rows, numeric=("steps",))
