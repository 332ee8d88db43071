"""Line charts that take their colours from the page they are on.

matplotlib draws with stand-in colours; these become CSS variables, so one drawing serves light, dark and paper. Text
stays text. A drawing is made twice, wide and narrow, since shrinking one makes its text too small for a phone.
matplotlib is imported when the first chart is drawn.
"""

import hashlib
import io
import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from rhapsode.core.report import Chart, Key, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STYLES = 6
"""Colours and dashes there are; a seventh series starts again."""

MOST_POINTS = 1200
MOST_ROWS = 40

_INK, _MUTED, _GRID = "#00f001", "#00f002", "#00f003"
_SERIES = tuple(f"#00f01{i}" for i in range(1, STYLES + 1))
_VARIABLES = {_INK: "ink", _MUTED: "muted", _GRID: "line"} | {c: f"series-{i}" for i, c in enumerate(_SERIES, start=1)}
_DASHES: tuple[tuple[float, tuple[float, ...] | None], ...] = (
    (0, None), (0, (5, 2)), (0, (1.5, 1.5)), (0, (8, 2, 1.5, 2)), (0, (3, 3)), (0, (10, 3)),
)  # fmt: skip


class Series(NamedTuple):
    """A line: equally many x and y, x ascending. A y that is not a number leaves a gap."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


class _Size(NamedTuple):
    width: float
    height: float
    ticks: int


_WIDE, _NARROW = _Size(7.2, 3.3, 8), _Size(3.4, 2.9, 4)


def line_chart(
    series: Sequence[Series], *, x_label: str, y_label: str, title: str, description: str = "", log_x: bool = False
) -> Chart:
    """Draw lines over a common x.

    Args:
        series: one or more lines.
        x_label, y_label: what is measured, with its unit.
        title: what the chart shows; read aloud by screen readers and written above the drawing.
        description: what is to be seen; made from the last values if empty.
        log_x: logarithmic x. Points at 0 or below are left out of the drawing, and the note says how many.
    """
    drawn = [_finite(one, log_x=log_x) for one in series]
    svgs = [_draw([_thinned(s) for s in drawn], x_label, y_label, size=size, log_x=log_x) for size in (_WIDE, _NARROW)]
    notes = []
    if log_x and (left_out := sum(1 for s in series for x in s.x if x <= 0)):
        notes.append(f"Points at 0 or below have no place on a logarithmic axis: {left_out} left out.")
    if any(len(s.x) > MOST_POINTS for s in drawn):
        notes.append("Long lines are drawn by the lowest and the highest point of each short stretch.")
    return Chart(
        title=title,
        description=description or _describe(series, x_label, y_label),
        wide=svgs[0],
        narrow=svgs[1],
        keys=[Key(s.name, i % STYLES + 1) for i, s in enumerate(series)],
        table=_table(series, x_label, y_label),
        note=" ".join(notes),
    )


def _finite(series: Series, *, log_x: bool) -> Series:
    """Infinities become gaps; points that a logarithm cannot show are left out."""
    points = [(x, y if math.isfinite(y) else math.nan) for x, y in zip(series.x, series.y, strict=True)]
    points = [p for p in points if p[0] > 0] if log_x else points
    return Series(series.name, [x for x, _ in points], [y for _, y in points])


def _thinned(series: Series) -> Series:
    """At most MOST_POINTS points: of each stretch its lowest and its highest, so no spike is lost; gaps stay."""
    count = len(series.x)
    if count <= MOST_POINTS:
        return series
    kept: list[int] = []
    stretch = math.ceil(count / (MOST_POINTS // 3))
    for start in range(0, count, stretch):
        numbers = [i for i in range(start, min(start + stretch, count)) if not math.isnan(series.y[i])]
        gaps = [i for i in range(start, min(start + stretch, count)) if math.isnan(series.y[i])]
        ends = {min(numbers, key=series.y.__getitem__), max(numbers, key=series.y.__getitem__)} if numbers else set()
        kept += sorted(ends | set(gaps[:1]))
    return Series(series.name, [series.x[i] for i in kept], [series.y[i] for i in kept])


def _draw(series: Sequence[Series], x_label: str, y_label: str, *, size: _Size, log_x: bool) -> str:
    from matplotlib import style
    from matplotlib.figure import Figure

    settings = {"svg.fonttype": "none", "svg.hashsalt": "rhapsode", "text.parse_math": False, "font.size": 9}
    with style.context(["default", settings]), io.StringIO() as file:
        figure = Figure(figsize=(size.width, size.height), layout="constrained")
        axes = figure.add_subplot()
        for i, one in enumerate(series):
            # A line of one point has no length: only a dot shows it.
            marker = "o" if len(one.x) == 1 else ""
            look: dict[str, Any] = {"color": _SERIES[i % STYLES], "linestyle": _DASHES[i % STYLES], "linewidth": 1.5}
            axes.plot(one.x, one.y, marker=marker, markersize=4, **look)
        _scale(axes, ticks=size.ticks, log_x=log_x)
        axes.set_xlabel(x_label, color=_MUTED)
        axes.set_ylabel(y_label, color=_MUTED)
        _quiet(axes)
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        return _for_page(file.getvalue())


def _scale(axes: "Axes", *, ticks: int, log_x: bool) -> None:
    axes.locator_params(axis="y", nbins=6)
    if not log_x:
        axes.locator_params(axis="x", nbins=ticks)
        return
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=ticks))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _number(x)))
    axes.xaxis.set_minor_locator(NullLocator())


def _quiet(axes: "Axes") -> None:
    """Only what helps to read values: a faint horizontal grid, no frame."""
    axes.grid(axis="y", color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", length=0, colors=_MUTED, pad=5)
    for side in ("top", "left", "right"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_GRID)
    axes.margins(x=0.01, y=0.06)


def _for_page(svg: str) -> str:
    """The drawing alone, in the page's colours and font, scaling with its box, with names that no other drawing has."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(
        r'^<svg [^>]*?viewBox="([^"]+)"[^>]*>', r'<svg viewBox="\1" aria-hidden="true" focusable="false">', svg
    )
    svg = re.sub(r"font: ([0-9.]+)px [^;\"]*", r"font-size: \1px", svg)
    for color, variable in _VARIABLES.items():
        svg = svg.replace(color, f"var(--{variable})")
    mark = f"d{hashlib.sha256(svg.encode()).hexdigest()[:8]}-"
    svg = re.sub(r'\bid="', f'id="{mark}', svg)
    return re.sub(r'(url\(#|href="#)', rf"\g<1>{mark}", svg).replace("xlink:href", "href")


def _describe(series: Sequence[Series], x_label: str, y_label: str) -> str:
    ends = [
        f"{s.name} goes from {_number(s.y[0])} to {_number(s.y[-1])} between {x_label} {_number(s.x[0])} and "
        f"{_number(s.x[-1])}"
        for s in series
        if len(s.x)
    ]
    return f"{y_label} over {x_label}: {'; '.join(ends) or 'no points'}."


def _table(series: Sequence[Series], x_label: str, y_label: str) -> Table:
    """The numbers wherever the line with the fewest points has one, or at some of these places when they are many."""
    fewest = min((s for s in series if len(s.x)), key=lambda s: len(s.x), default=Series("", (), ()))
    at = sorted(set(fewest.x))
    shown = at[:: max(1, math.ceil(len(at) / MOST_ROWS))]
    shown += at[-1:] if at[-1:] != shown[-1:] else []
    lookups = [dict(zip(s.x, s.y, strict=True)) for s in series]
    rows = [[_number(x), *(_number(values[x]) if x in values else "" for values in lookups)] for x in shown]
    columns = [x_label, *(s.name for s in series)]
    points = max((len(s.x) for s in series), default=0)
    some = f", {len(shown)} of {points:,} points" if len(shown) < points else ""
    return Table(columns, rows, caption=f"{y_label}{some}", numeric=columns)


def _number(value: float) -> str:
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{value:,.0f}"
    return f"{value:.4g}"
