"""The table of `docs/results.md`, from the reports of runs: what tuning was worth, with intervals.

    python bench/results.py out/runs/support-intents out/runs/translate-en-de

A line for each figure of each run: of the base with its best prompt, of the tuned model, and their difference in pairs.
"""

import argparse
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rhapsode.core.events import read_events
from rhapsode.evaluate.evaluation import Comparison
from rhapsode.evaluate.forgetting import sentence

HEAD = (
    "recipe",
    "figure",
    "questions",
    "base (examples shown)",
    "tuned",
    "verdict",
    "general text",
    "training",
)


def lines(run_dir: Path) -> Iterator[tuple[str, ...]]:
    """The cells of a run's lines; a reward model's base can be asked nothing."""
    report = json.loads((run_dir / "report.json").read_text(encoding="utf-8"))
    task, training = report["task"], _training(run_dir)
    before, after = task["before"], task["after"]
    general = sentence(Comparison(**task["general"]["comparison"])) if task["general"] else ""
    then = [f"{_figure(score)} ({before['shots']:.0f})" for score in before["scores"]] if before else []
    verdicts = [change["verdict"] for change in task["changes"]]
    rows = itertools.zip_longest(after["scores"], then, verdicts, fillvalue="")
    for place, (now, base, verdict) in enumerate(rows):
        told = (general, training) if place == 0 else ("", "")
        first = run_dir.name if place == 0 else ""
        yield first, now["scorer"], str(len(task["items"])), base, _figure(now), verdict, *told


def _figure(score: dict[str, Any]) -> str:
    if score["low"] is None:
        return f"{100 * score['value']:.1f}"
    return f"{100 * score['value']:.1f} [{100 * score['low']:.1f}-{100 * score['high']:.1f}]"


def _training(run_dir: Path) -> str:
    """What training took: steps, and minutes of them."""
    events = read_events(run_dir / "events.jsonl")
    steps = max(event.fields["step"] for event in events if event.kind == "step")
    spent = [event.fields for event in events if event.kind == "spent"]
    minutes = sum(each["seconds_by"]["steps"] for each in spent) / 60
    return f"{steps} steps, {minutes:.1f} min"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of runs that judged answers")
    for row in (HEAD, ("---",) * len(HEAD), *(cells for run in parser.parse_args().runs for cells in lines(run))):
        print(f"| {' | '.join(row)} |")


if __name__ == "__main__":
    main()
