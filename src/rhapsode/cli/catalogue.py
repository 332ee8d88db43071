"""How the catalogue looks: one table of models with what they need here, and pages of one."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rhapsode.catalogue.entries import Entry
from rhapsode.catalogue.fit import Fit, Use
from rhapsode.catalogue.models import CATALOGUE
from rhapsode.catalogue.pull import Pulled
from rhapsode.catalogue.recommend import Recommendation
from rhapsode.catalogue.store import Installed
from rhapsode.catalogue.tasks import TASKS, good_for
from rhapsode.cli.console import Cell, table
from rhapsode.core.units import format_bytes, format_count, format_seconds

WIDE = 114
"""Columns from which the table has room for words."""
STYLES = {"fits": "", "tight": "yellow", "does not fit": "dim"}
HERE = "●"


def as_json(entry: Entry, fit: Fit, *, is_here: bool) -> dict[str, Any]:
    """All of an entry as JSON values."""
    return {
        "name": entry.name,
        "repo": entry.repo,
        "family": entry.family,
        "kind": entry.kind,
        "parameters": entry.parameters,
        "context": entry.context,
        "licence": entry.licence._asdict(),
        "languages": entry.languages,
        "good_for": list(good_for(entry.name)),
        "here": is_here,
        "fit": {name: use._asdict() for name, use in fit._asdict().items()},
    }


def show_list(console: Console, fits: Mapping[str, Fit], here: Mapping[str, Installed]) -> None:
    """The catalogue, base and instruct model of one shape in one row, and whatever else is here."""
    console.print(_table(console, list(_pairs()), fits, here))
    console.print(_legend())
    if others := [model for name, model in here.items() if name not in CATALOGUE]:
        sources = [(HERE, model.name, str(model.manifest.facts.get("source", ""))) for model in others]
        console.print(table("Also here", ("", "", ""), sources))


def show_recommendation(
    console: Console, advice: Recommendation, fits: Mapping[str, Fit], here: Mapping[str, Installed]
) -> None:
    """The one to take, why, and the others that were weighed."""
    if advice.entry is not None:
        console.print(Text.assemble(f"for {advice.task}: ", (advice.entry.name, "bold")), soft_wrap=True)
    console.print(advice.because, soft_wrap=True)
    console.print(_table(console, [(CATALOGUE[name],) for name in TASKS[advice.task].models], fits, here))
    if advice.entry is not None and advice.entry.name not in here:
        console.print(f"rhapsode models pull {advice.entry.name}", style="bold", soft_wrap=True)


def show_entry(console: Console, entry: Entry, fit: Fit, path: Path | None) -> None:
    """One model on a page."""
    licence = entry.licence
    package = f", or {entry.package.name} of the package index, which is asked first" if entry.package else ""
    rows: list[tuple[Cell, Cell]] = [
        ("here", str(path) if path else f"no; rhapsode models pull {entry.name}"),
        ("from", f"{entry.repo}{package}"),
        (
            "kind",
            "answers" if entry.kind == "instruct" else "a base model: goes on with a text, and is made for tuning",
        ),
        ("family", f"{entry.family}, {len(entry.spec.layers)} layers of width {entry.spec.width}"),
        ("parameters", f"{format_count(entry.parameters)} ({entry.parameters:,})"),
        ("context", f"{entry.context:,} tokens"),
        ("languages", entry.languages),
        ("good for", ", ".join(good_for(entry.name)) or "tuning"),
        ("licence", f"{licence.name}, {licence.url}: {licence.asks}"),
        *((name, _sentence(use)) for name, use in zip(("chat", "LoRA", "full training"), fit, strict=True)),
    ]
    console.print(table(entry.name, ("", ""), rows))


def show_installed(console: Console, name: str, path: Path, facts: Mapping[str, Any]) -> None:
    """A model that is here and not of the catalogue."""
    console.print(table(name, ("", ""), [("here", str(path)), *((key, str(value)) for key, value in facts.items())]))


def show_pulled(console: Console, pulled: Pulled) -> None:
    state = f"is here, after {format_seconds(pulled.seconds)}" if pulled.is_new else "was here already"
    console.print(f"{pulled.name} {state}: {pulled.path}", soft_wrap=True)
    console.print(f"rhapsode chat {pulled.name}", style="bold", soft_wrap=True)


def _pairs() -> Iterator[tuple[Entry, ...]]:
    """Base and instruct model of the same weights' shape, which need the same."""
    waiting = dict(CATALOGUE)
    while waiting:
        name = next(iter(waiting))
        stem = name.removesuffix("-base").removesuffix("-it")
        yield tuple(waiting.pop(n) for n in (stem, f"{stem}-base", f"{stem}-it") if n in waiting)


def _table(
    console: Console, pairs: Sequence[tuple[Entry, ...]], fits: Mapping[str, Fit], here: Mapping[str, Installed]
) -> Table:
    """Figures in columns; where the window is narrow, words go on a second line below the name."""
    is_wide = console.width >= WIDE
    drawn = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    drawn.add_column("")
    drawn.add_column("name", no_wrap=is_wide, min_width=23)
    for column in ("size", *("chat", "tok/s"), *("LoRA", "tok/s"), *("full", "tok/s")):
        drawn.add_column(column, justify="right", no_wrap=True)
    for column in ("context", "languages", "good for", "licence") if is_wide else ():
        drawn.add_column(column, no_wrap=True)
    for pair in pairs:
        entry, is_here = pair[0], any(one.name in here for one in pair)
        words = [_context(entry.context), entry.languages.partition(":")[0], _letters(pair), entry.licence_id]
        names = _names(pair, here)
        if not is_wide:
            names.append("\n" + " ".join(words), style="dim")
        figures = [cell for use in fits[entry.name] for cell in _cells(use)]
        drawn.add_row(HERE if is_here else "", names, _size(entry.parameters), *figures, *words[: 4 * is_wide])
    return drawn


def _names(pair: tuple[Entry, ...], here: Mapping[str, Installed]) -> Text:
    """The name, and how the names of its kin differ from it."""
    first = pair[0].name
    names = Text(first, style="bold" if first in here else "")
    for other in pair[1:]:
        names.append(f" {other.name.removeprefix(first)}", style="bold" if other.name in here else "dim")
    return names


def _letters(pair: tuple[Entry, ...]) -> str:
    """A letter for each task that one of the pair is good for, always in the same place."""
    tasks = {task for entry in pair for task in good_for(entry.name)}
    return "".join(choice.letter if task in tasks else "·" for task, choice in TASKS.items())


def _size(parameters: int) -> str:
    return f"{parameters / 1e9:.1f}b" if parameters >= 9.95e8 else f"{parameters / 1e6:.0f}m"


def _cells(use: Use) -> tuple[Text, Text]:
    """Memory, and tokens a second."""
    speed = "no" if use.verdict == "does not fit" else _rate(use)
    return Text(f"{use.memory / 1e9:.1f} GB", style=STYLES[use.verdict]), Text(speed, style=STYLES[use.verdict])


def _rate(use: Use) -> str:
    speed = use.tokens_per_second
    return format_count(speed) if speed >= 10 else f"{speed:.1f}"


def _sentence(use: Use) -> Text:
    words = f"{format_bytes(use.memory)} of memory: {use.verdict}; about {_rate(use)} tokens/s"
    return Text(words, style=STYLES[use.verdict])


def _context(tokens: int) -> str:
    return f"{tokens / 1024:.0f}k" if tokens >= 1024 else str(tokens)


def _legend() -> Text:
    letters = ", ".join(f"{choice.letter} {task}" for task, choice in TASKS.items())
    return Text.assemble(
        f"\n{HERE} here; -it answers, -base goes on with a text. Memory and estimated tokens/s on this machine for "
        "chat, LoRA and full training; ",
        ("yellow", "yellow"),
        ": only if other programs leave room; no: it does not fit.\n",
        f"Good for {letters}.\n",
        "`rhapsode models show NAME` tells more, `--task 'support chat'` recommends one.",
        style="dim",
    )
