"""A report stands alone, cannot be written into by what it shows, and can be read anywhere."""

import html
import math
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import pytest

from rhapsode.core.errors import RhapsodeError
from rhapsode.core.report import (
    Bar,
    Bars,
    Block,
    Chart,
    Code,
    Definitions,
    Details,
    Figure,
    Figures,
    Heading,
    Note,
    Paragraph,
    Report,
    Sample,
    Table,
)
from rhapsode.core.report_chart import MOST_POINTS, MOST_ROWS, Level, Marks, Series, _thinned, line_chart, needs_log

CHROMIUM = shutil.which("chromium")
VOID = {"meta", "link", "br", "hr", "img", "path", "use", "line"}


class Page(HTMLParser):
    """What a browser would see: tags properly nested, visible text, every attribute."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return "".join(self.words)


def chart() -> Chart:
    steps = list(range(1, 301))
    training = Series("training", steps, [3 * math.exp(-s / 80) + 2 for s in steps])
    held_out = Series("held out", steps[::50], [3 * math.exp(-s / 80) + 2.1 for s in steps[::50]])
    return line_chart([training, held_out], x_label="step", y_label="loss, nats a token", title="Loss while training")


def every_block(text: str = "words") -> list[Block]:
    return [
        Figures([Figure(text, text, text), Figure("parameters", "3.1m")]),
        Paragraph(text),
        Note(text, title=text, tone="good"),
        Heading(text),
        Bars([Bar(text, 90, "90", text, is_marked=True), Bar("dropped", 10, "10"), Bar("none", 0, "0")], caption=text),
        chart(),
        Table([text, "n"], [[text, "1"], ["b", "2"]], caption=text, numeric=["n"], strong=0),
        Sample(prompt=text, completion=text, title=text, source=text, followed=text),
        Code(text, caption=text),
        Definitions([(text, text), ("corpus", "9f2c" * 16)]),
        Details(text, [Paragraph(text), Details(text, [Code(text)])], is_open=True),
    ]


def full(text: str = "words") -> Report:
    return Report(text, every_block(text), subtitle=text, footer=text)


def test_nothing_is_fetched_and_nothing_runs() -> None:
    page = Page(full().html())
    assert "script" not in page.tags
    references = [
        (t, n, v) for t, n, v in page.attributes if n in ("src", "href", "action", "srcset", "data", "xlink:href")
    ]
    assert {v for _, _, v in references if not v.startswith("#")} == {"data:,"}
    assert not [n for _, n, _ in page.attributes if n.startswith("on")]
    assert not re.search(r"https?://|@import|url\((?!#)", full().html())
    assert ("meta", "content", "default-src 'none'; style-src 'unsafe-inline'; img-src data:") in page.attributes


@pytest.mark.parametrize(
    "attack",
    [
        "<script>alert(1)</script>",
        "</pre></style></svg><img src=x onerror=alert(1)>",
        '" onmouseover="alert(1)" x="',
        "{{ 7 * 7 }}{% raw %}",
        "&lt;b&gt; & <!-- --> ]]>",
    ],
)
def test_text_stays_text_wherever_it_stands(attack: str) -> None:
    page, harmless = Page(full(attack).html()), Page(full("harmless").html())
    assert page.tags == harmless.tags
    assert [(t, n) for t, n, _ in page.attributes] == [(t, n) for t, n, _ in harmless.attributes]
    assert page.text == harmless.text.replace("harmless", attack)


def test_bars_are_as_long_as_their_part_of_the_whole() -> None:
    def widths(whole: float | None) -> list[str]:
        page = Report("bars", [Bars([Bar("half", 0.5, "50"), Bar("tenth", 0.1, "10")], whole=whole)]).html()
        return re.findall(r'"width: ([0-9.]+)%"', page)

    assert widths(1) == ["50.00", "10.00"]
    assert widths(None) == ["100.00", "20.00"]


def test_labels_of_charts_are_text_too() -> None:
    attack = "<script>$x^2$</script> & </svg>"
    drawn = line_chart([Series(attack, [1, 2], [1, 2])] * 2, x_label=attack, y_label=attack, title=attack)
    page = Page(Report("t", [drawn]).html())
    assert "script" not in page.tags
    assert page.text.count(attack) >= 5


def test_samples_are_shown_to_the_character() -> None:
    prompt, completion = "\n\n  def f():\n\treturn 'é€😀'\n", "\r\n\x00\x1b[31m\ud800"
    source = Report("t", [Sample(prompt=prompt, completion=completion)]).html()
    # HTML leaves out one line end that follows <pre>: the first must not be ours.
    found = [html.unescape(m) for m in re.findall(r"<pre[^>]*>(.*?)</pre>", source, flags=re.DOTALL)]
    shown = [m.removeprefix("\n") for m in found]
    assert shown == [prompt, "\n␀␛[31m\ufffd"]
    source.encode("utf-8")


def test_drawings_take_the_colours_of_the_page_and_keep_text() -> None:
    drawn = chart()
    for svg in (drawn.wide, drawn.narrow):
        root = ET.fromstring(svg)
        assert not re.search(r"#[0-9a-fA-F]{6}\b", svg)
        assert "var(--series-1)" in svg
        assert "var(--series-2)" in svg
        assert {"step", "loss, nats a token"} <= {(t.text or "").strip() for t in root.iter("text")}
        assert "image" not in {e.tag for e in root.iter()}


def test_names_in_drawings_do_not_collide() -> None:
    other = line_chart([Series("a", [0, 1], [1, 0])], x_label="x", y_label="y", title="other")
    page = Page(Report("t", [chart(), other]).html())
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    wanted = {value[1:] for _, name, value in page.attributes if name == "href" and value.startswith("#")}
    assert wanted <= set(ids)


def test_a_report_is_the_same_every_time() -> None:
    assert full().html() == full().html()


def test_a_chart_says_in_words_and_numbers_what_it_shows() -> None:
    drawn = chart()
    assert "training goes from 4.963 to 2.071 between step 1 and 300" in drawn.description
    assert drawn.table.columns == ["step", "training", "held out"]
    assert [row[0] for row in drawn.table.rows] == ["1", "51", "101", "151", "201", "251"]
    assert all(all(row) for row in drawn.table.rows)
    assert ("div", "aria-label", f"{drawn.title}. {drawn.description}") in Page(Report("t", [drawn]).html()).attributes


def test_long_lines_keep_their_spikes() -> None:
    y = [2.0] * 100_000
    y[77_777] = 50.0
    long = line_chart([Series("loss", range(100_000), y)], x_label="step", y_label="loss", title="t")
    short = line_chart([Series("loss", [0, 77_777, 99_999], [2, 50, 2])], x_label="step", y_label="loss", title="t")
    assert len(long.wide) < len(short.wide) + 40 * MOST_POINTS
    ticks = [re.findall(r">\s*([0-9]+)</text>", svg) for svg in (long.wide, short.wide)]
    assert ticks[0] == ticks[1]
    assert "lowest and the highest" in long.note
    assert len(long.table.rows) <= MOST_ROWS + 1
    assert long.table.rows[-1] == ["99,999", "2"]


def test_values_that_are_no_numbers_leave_gaps() -> None:
    y = [3.0, math.inf, math.nan, 2.0, 1.0] * 500
    drawn = line_chart([Series("loss", range(len(y)), y)], x_label="step", y_label="loss", title="t")
    assert "nan" not in drawn.wide.lower()
    assert "inf" in {cell for row in drawn.table.rows for cell in row} | {"inf"}
    assert drawn.table.rows[0] == ["0", "3"]


def test_a_logarithmic_axis_says_what_it_leaves_out() -> None:
    series = [Series("loss", [0, 1, 10, 100, 1000], [5, 4, 3, 2, 1])]
    drawn = line_chart(series, x_label="tokens", y_label="loss", title="t", log_x=True)
    assert "1 left out" in drawn.note
    assert {"1", "10", "100", "1,000"} <= set(re.findall(r">([0-9,]+)</text>", drawn.wide))
    assert len(drawn.table.rows) == 5


@pytest.mark.parametrize("points", [[], [1.0]])
def test_charts_of_nothing_and_of_one_point(points: list[float]) -> None:
    drawn = line_chart([Series("loss", points, points)], x_label="step", y_label="loss", title="t")
    ET.fromstring(drawn.wide)
    assert len(drawn.table.rows) == len(points)


def test_writing_is_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run" / "report.html"
    Report("one", []).write(path)
    assert path.read_text(encoding="utf-8") == Report("one", []).html()

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(RhapsodeError, match="disk is full"):
        Report("two", []).write(path)
    assert [f.name for f in path.parent.iterdir()] == ["report.html"]
    assert "one" in path.read_text(encoding="utf-8")


def test_a_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    """And what is to be cleared away does not hide it."""
    (tmp_path / "run").write_text("something else")
    with pytest.raises(RhapsodeError, match="run: File exists|run: Not a directory"):
        Report("one", []).write(tmp_path / "run" / "report.html")
    with pytest.raises(RhapsodeError, match="Not a directory"):
        Report("one", []).write(tmp_path / "run" / "deeper" / "report.html")


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.parametrize("width", [360, 1200])
def test_the_page_never_scrolls_sideways(width: int, tmp_path: Path) -> None:
    """Measured in a browser: what is too wide scrolls in a box of its own."""
    wide_table = Table([f"column {i}" for i in range(12)], [[f"value {i}" for i in range(12)]])
    report = Report("A title of wordswithoutanyend" * 3, [*every_block("long" * 40), wide_table])
    report.write(tmp_path / "report.html")
    frame = tmp_path / "frame.html"
    frame.write_text(
        f'<iframe id="f" src="report.html" style="width:{width}px;height:900px;border:0"></iframe><p id="answer"></p>'
        '<script>onload = () => { const d = f.contentDocument.documentElement;'
        ' answer.textContent = `${d.scrollWidth} in ${d.clientWidth}`; }</script>',
        encoding="utf-8",
    )  # fmt: skip
    assert CHROMIUM is not None
    flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    flags += " --disable-component-update --disable-sync --allow-file-access-from-files --dump-dom"
    command = [CHROMIUM, *flags.split(), f"--user-data-dir={tmp_path / 'profile'}", frame.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    measured = re.search(r">(\d+) in (\d+)<", dom)
    assert measured is not None
    needed, given = map(int, measured.groups())
    assert width - 20 <= given <= width
    assert needed <= given


def test_levels_and_marks_are_drawn_and_told() -> None:
    steps = list(range(1, 21))
    series = Series("norm", steps, [10.0 / s for s in steps])
    marks = Marks("steps that were left out", [3, 7])
    drawn = line_chart(
        [series], x_label="step", y_label="norm", title="Norm", level=Level("clipped above 1", 1.0), marks=marks
    )
    plain = line_chart([series], x_label="step", y_label="norm", title="Norm", marks=Marks("nothing", []))
    for svg, without in ((drawn.wide, plain.wide), (drawn.narrow, plain.narrow)):
        assert "clipped above 1" in svg
        assert "var(--bad)" in svg
        assert "var(--bad)" not in without
        ET.fromstring(svg)
    assert drawn.note == "Triangles mark steps that were left out: 3, 7."
    assert plain.note == ""
    many = line_chart([series], x_label="step", y_label="norm", title="Norm", marks=Marks("x", list(range(1, 12))))
    assert many.note.endswith("8 and 3 more.")


def test_a_logarithmic_axis_leaves_out_what_it_cannot_show() -> None:
    series = Series("norm", [0, 1, 2, 3], [5.0, 0.0, 1000.0, math.nan])
    drawn = line_chart([series], x_label="step", y_label="norm", title="Norm", log_x=True, log_y=True)
    assert drawn.note == "Points at 0 or below have no place on a logarithmic axis: 2 left out."
    assert ">1,000<" in drawn.wide
    assert needs_log([1.0] * 9 + [100.0])
    assert not needs_log([1.0, 2.0, 3.0, math.inf, math.nan, -1.0])
    assert not needs_log([])


def test_the_first_steps_of_a_long_line_keep_their_shape_on_a_logarithmic_axis() -> None:
    series = Series("loss", list(range(1, 100_001)), [1.0 / x for x in range(1, 100_001)])
    plain, logarithmic = (_thinned(series, log_x=log_x) for log_x in (False, True))
    assert len(plain.x) <= MOST_POINTS
    assert len(logarithmic.x) <= MOST_POINTS
    assert list(logarithmic.x[:100]) == list(range(1, 101))
    assert logarithmic.x[-1] == 100_000


def test_faint_lines_have_a_faint_key() -> None:
    lines = [Series("smoothed", [1, 2], [1, 2]), Series("each step", [1, 2], [1, 3], is_faint=True)]
    drawn = line_chart(lines, x_label="x", y_label="y", title="t")
    assert [key.is_faint for key in drawn.keys] == [False, True]
    assert 'class="series-2 faint"' in Report("t", [drawn]).html()


def test_what_somebody_wrote_keeps_its_lines_in_a_table() -> None:
    table = Table(("step", "words"), [("1", "\n  def f():\n\treturn <b>")], written=("words",))
    assert '<td class="written"><pre>\n\n  def f():\n\treturn &lt;b&gt;</pre></td>' in Report("t", [table]).html()
