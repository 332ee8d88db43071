"""Findings as one HTML page that stands alone: nothing is fetched, nothing runs.

A report is a list of blocks; the template turns each into HTML and escapes every character that is not ours, so that a
corpus or a model cannot write into the page. It reads on a phone, in the dark, and on paper.

    losses = [Series("training", steps, train_loss), Series("held out", looked_at, held_out_loss)]
    Report(
        "A model of the Python standard library",
        [
            Figures([Figure("bits per byte", "1.31", "95% interval 1.28 to 1.35"), Figure("parameters", "3.1m")]),
            Heading("Loss"),
            line_chart(losses, x_label="step", y_label="loss, nats a token", title="Loss while training"),
            Heading("In its own words"),
            Sample(prompt="def mean(data):", completion="\\n    return sum(data) / len(data)", source="statistics.py"),
        ],
    ).write(run / "report.html")

`line_chart` is in `core/report_chart.py`.
"""

import contextlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jinja2

from rhapsode.core.manifest import explain_os_error


@dataclass(frozen=True)
class Heading:
    """Begins a section."""

    text: str


@dataclass(frozen=True)
class Paragraph:
    """Running text."""

    text: str


@dataclass(frozen=True)
class Note:
    """Something to know before relying on what is near it. `tone` colours its edge."""

    text: str
    title: str = ""
    tone: Literal["plain", "good", "bad"] = "plain"


@dataclass(frozen=True)
class Figure:
    """A number worth reading first, already formatted; `detail` is its interval, or what it is compared with."""

    label: str
    value: str
    detail: str = ""


@dataclass(frozen=True)
class Figures:
    """Key figures side by side."""

    figures: Sequence[Figure]


@dataclass(frozen=True)
class Table:
    """Rows of text, already formatted. Columns named in `numeric` line up on the right; row `strong` is stressed.

    Columns named in `written` hold what somebody wrote: shown to the character, line ends included.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    numeric: Sequence[str] = ()
    strong: int | None = None
    written: Sequence[str] = ()


@dataclass(frozen=True)
class Bar:
    """`value` decides the length, `text` is what is written. Marked bars stand out from the others."""

    label: str
    value: float
    text: str
    detail: str = ""
    is_marked: bool = False


@dataclass(frozen=True)
class Bars:
    """Amounts to compare, for example documents kept and dropped, with the reason.

    Attributes:
        whole: what the full length stands for; None is the largest amount.
    """

    bars: Sequence[Bar]
    caption: str = ""
    whole: float | None = None

    @property
    def full(self) -> float:
        return self.whole or max((bar.value for bar in self.bars), default=0) or 1


@dataclass(frozen=True)
class Key:
    """A legend entry: the colour and the dashes of the line that it names, numbered from 1."""

    name: str
    style: int
    is_faint: bool = False


@dataclass(frozen=True)
class Chart:
    """A drawing as SVG text, drawn by us: one for wide pages, one for narrow ones. `table` holds the same numbers."""

    title: str
    description: str
    wide: str
    narrow: str
    keys: Sequence[Key]
    table: Table
    note: str = ""


@dataclass(frozen=True)
class Code:
    """Text shown as it is."""

    text: str
    caption: str = ""


@dataclass(frozen=True)
class Sample:
    """What a model wrote after a prompt, beside what really followed, if that is known."""

    prompt: str
    completion: str
    title: str = ""
    source: str = ""
    followed: str = ""
    completion_label: str = "The model wrote"
    followed_label: str = "What really followed"


class Run(NamedTuple):
    """Tokens that follow each other and are alike: learned, or only read."""

    tokens: Sequence[str]
    is_learned: bool


@dataclass(frozen=True)
class Learned:
    """Sequences token by token, with those that are learned marked."""

    title: str
    sequences: Sequence[Sequence[Run]]
    source: str = ""


@dataclass(frozen=True)
class Definitions:
    """Names and values, for example hashes and versions."""

    items: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Details:
    """Blocks that open on demand."""

    summary: str
    blocks: Sequence["Block"]
    is_open: bool = False


Block = Heading | Paragraph | Note | Figures | Table | Bars | Chart | Code | Sample | Learned | Definitions | Details


@dataclass(frozen=True)
class Report:
    """A page. `subtitle` stands under the title, `footer` at the end."""

    title: str
    blocks: Sequence[Block]
    subtitle: str = ""
    footer: str = ""

    def html(self) -> str:
        return _template().render(report=self, blocks=self.blocks)

    def write(self, path: Path) -> None:
        """Write the page completely or not at all.

        Raises:
            RhapsodeError: the place cannot be written.
        """
        temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                file.write(self.html().encode("utf-8"))
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError as error:
            raise explain_os_error(error, path) from error
        finally:
            with contextlib.suppress(OSError):  # where nothing could be written, there is nothing to remove
                temporary.unlink()


_CONTROL = {code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n"} | {127: 0x2421}
_SURROGATE = re.compile("[\ud800-\udfff]")


def _shown(value: Any) -> Any:
    """Text as a page can hold it: control characters become visible, half a character becomes a question mark."""
    if isinstance(value, str) and not hasattr(value, "__html__"):
        return _SURROGATE.sub("\ufffd", value.replace("\r\n", "\n").translate(_CONTROL))
    return value


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("rhapsode.core", "report_page"),
        autoescape=True,
        finalize=_shown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["kind"] = lambda block: type(block).__name__
    return environment.get_template("page.html.jinja")
