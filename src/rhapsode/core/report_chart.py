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
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from rhapsode.core.report import Chart, Key, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STYLES = 6
"""Colours and dashes there are; a seventh series starts again."""

MOST_POINTS = 1200
MOST_ROWS = 40
MOST_NAMED = 8
"""Marks whose place the note tells."""

_INK, _MUTED, _GRID, _BAD = "#00f001", "#00f002", "#00f003", "#00f004"
_SERIES = tuple(f"#00f01{i}" for i in range(1, STYLES + 1))
_VARIABLES = {_INK: "ink", _MUTED: "muted", _GRID: "line", _BAD: "bad"} | {
    c: f"series-{i}" for i, c in enumerate(_SERIES, start=1)
}
_DASHES: tuple[tuple[float, tuple[float, ...] | None], ...] = (
    (0, None), (0, (5, 2)), (0, (1.5, 1.5)), (0, (8, 2, 1.5, 2)), (0, (3, 3)), (0, (10, 3)),
)  # fmt: skip


class Series(NamedTuple):
    """A line: equally many x and y, x ascending. A y that is not a number leaves a gap.

    A faint line stands behind the others, with their noise for example.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    is_faint: bool = False


class Level(NamedTuple):
    """A value to compare the lines with: a thin line across, its name at the right."""

    name: str
    y: float


class Marks(NamedTuple):
    """Places on x where something happened: small triangles at the foot of the drawing, which the note explains."""

    what: str
    x: Sequence[float]


class _Axes(NamedTuple):
    """What one drawing has besides its lines."""

    x_label: str
    y_label: str
    log_x: bool
    log_y: bool
    level: Level | None
    marks: Marks | None


class _Size(NamedTuple):
    width: float
    height: float
    ticks: int


_WIDE, _NARROW = _Size(7.2, 3.3, 8), _Size(3.4, 2.9, 4)


def line_chart(
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    title: str,
    description: str = "",
    log_x: bool = False,
    log_y: bool = False,
    level: Level | None = None,
    marks: Marks | None = None,
) -> Chart:
    """Draw lines over a common x.

    Args:
        series: one or more lines.
        x_label, y_label: what is measured, with its unit.
        title: what the chart shows; read aloud by screen readers and written above the drawing.
        description: what is to be seen; made from the last values if empty.
        log_x, log_y: logarithmic axes. Points at 0 or below are left out of the drawing, and the note says how many.
        level: a value to compare with.
        marks: places where something happened.
    """
    drawn = [_finite(one, log_x=log_x, log_y=log_y) for one in series]
    axes = _Axes(x_label, y_label, log_x, log_y, level, marks if marks and marks.x else None)
    svgs = [_draw([_thinned(s, log_x=log_x) for s in drawn], axes, size=size) for size in (_WIDE, _NARROW)]
    return Chart(
        title=title,
        description=description or _describe(series, x_label, y_label),
        wide=svgs[0],
        narrow=svgs[1],
        keys=[Key(s.name, i % STYLES + 1, is_faint=s.is_faint) for i, s in enumerate(series)],
        table=_table(series, x_label, y_label),
        note=" ".join(_notes(series, drawn, axes)),
    )


def needs_log(values: Sequence[float]) -> bool:
    """Whether most values would lie in a small part of a plain axis."""
    found = sorted(v for v in values if math.isfinite(v) and v > 0)
    return len(found) > 1 and found[-1] > 12 * found[len(found) // 2]


def _notes(series: Sequence[Series], drawn: Sequence[Series], axes: _Axes) -> list[str]:
    notes = []
    if axes.marks is not None:
        some = [_number(x) for x in axes.marks.x[:MOST_NAMED]]
        more = f" and {len(axes.marks.x) - MOST_NAMED:,} more" if len(axes.marks.x) > MOST_NAMED else ""
        notes.append(f"Triangles mark {axes.marks.what}: {', '.join(some)}{more}.")
    left_out = sum(
        (axes.log_x and x <= 0) or (axes.log_y and y <= 0) for s in series for x, y in zip(s.x, s.y, strict=True)
    )
    if left_out:
        notes.append(f"Points at 0 or below have no place on a logarithmic axis: {left_out} left out.")
    if any(len(s.x) > MOST_POINTS for s in drawn):
        notes.append("Long lines are drawn by the lowest and the highest point of each short stretch.")
    return notes


def _finite(series: Series, *, log_x: bool, log_y: bool) -> Series:
    """Infinities become gaps; points that a logarithm cannot show are left out."""
    points = [(x, y if math.isfinite(y) else math.nan) for x, y in zip(series.x, series.y, strict=True)]
    points = [(x, y) for x, y in points if not (log_x and x <= 0) and not (log_y and y <= 0)]
    return series._replace(x=[x for x, _ in points], y=[y for _, y in points])


def _thinned(series: Series, *, log_x: bool) -> Series:
    """At most MOST_POINTS points: of each stretch its lowest and its highest, so no spike is lost; gaps stay.

    A logarithmic axis has much room for the first points, so they all stay there.
    """
    count = len(series.x)
    if count <= MOST_POINTS:
        return series
    whole = MOST_POINTS // 8 if log_x else 0
    kept = list(range(whole))
    stretch = math.ceil((count - whole) / (MOST_POINTS // 3 - whole))
    for start in range(whole, count, stretch):
        numbers = [i for i in range(start, min(start + stretch, count)) if not math.isnan(series.y[i])]
        gaps = [i for i in range(start, min(start + stretch, count)) if math.isnan(series.y[i])]
        ends = {min(numbers, key=series.y.__getitem__), max(numbers, key=series.y.__getitem__)} if numbers else set()
        kept += sorted(ends | set(gaps[:1]))
    return series._replace(x=[series.x[i] for i in kept], y=[series.y[i] for i in kept])


def _draw(series: Sequence[Series], shown: _Axes, *, size: _Size) -> str:
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
            if one.is_faint:
                look |= {"linestyle": "-", "linewidth": 0.7, "alpha": 0.6, "zorder": 1.8}
            axes.plot(one.x, one.y, marker=marker, markersize=4, **look)
        _scale(axes, shown, ticks=size.ticks)
        axes.set_xlabel(shown.x_label, color=_MUTED)
        axes.set_ylabel(shown.y_label, color=_MUTED)
        _quiet(axes)
        _besides(axes, shown)
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        return _for_page(file.getvalue())


def _scale(axes: "Axes", shown: _Axes, *, ticks: int) -> None:
    """Few, round numbers on both axes."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    plain = FuncFormatter(lambda value, _: _number(value))
    names: tuple[Literal["x", "y"], ...] = ("x", "y")
    for name, is_log, count in zip(names, (shown.log_x, shown.log_y), (ticks, 6), strict=True):
        axis, set_scale = (axes.xaxis, axes.set_xscale) if name == "x" else (axes.yaxis, axes.set_yscale)
        if is_log:
            set_scale("log")
            low, high = axes.get_xlim() if name == "x" else axes.get_ylim()
            is_short = 3 * math.log10(high / low) <= 1.5 * count
            axis.set_major_locator(LogLocator(subs=(1, 2, 5) if is_short else (1,), numticks=99))
            axis.set_minor_locator(NullLocator())
        else:
            axes.locator_params(axis=name, nbins=count)
        if is_log or name == "x":
            axis.set_major_formatter(plain)


def _besides(axes: "Axes", shown: _Axes) -> None:
    """The level and the marks, which do not change the range of the axes that the lines have given."""
    low, high = axes.get_ylim()
    if shown.level is not None:
        axes.axhline(shown.level.y, color=_MUTED, linewidth=0.9, linestyle=(0, (2, 3)), zorder=1.5)
        place = axes.get_yaxis_transform()
        axes.text(1, shown.level.y, f"{shown.level.name} ", transform=place, ha="right", va="bottom", color=_MUTED)
        low, high = min(low, shown.level.y), max(high, shown.level.y * 1.05)
    axes.set_ylim(low, high)
    if shown.marks is not None:
        foot = axes.get_xaxis_transform()
        x = [x for x in shown.marks.x if x > 0 or not shown.log_x]
        axes.plot(x, [0.025] * len(x), "^", color=_BAD, markersize=4.5, transform=foot, clip_on=False)


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
    if math.isnan(value):
        return "none"
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{value:,.0f}"
    return f"{value:.4g}"
