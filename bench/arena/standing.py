"""The standing after some races: who is how good when, and when we reached what the best peer had at the end."""

import json
import statistics
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Record = dict[str, Any]


def read(paths: Iterable[Path]) -> list[Record]:
    return [json.loads(line) for path in paths for line in path.read_text(encoding="utf-8").splitlines() if line]


def best(records: list[Record], *, minutes: float, kind: str) -> Record | None:
    """The run of this kind of peer that ended lowest after so many minutes."""
    runs = [r for r in records if r["kind"] == kind and r["minutes"] == minutes]
    return min(runs, key=_final, default=None)


def reached(record: Record, bits: float) -> float | None:
    """Seconds of training after which a run was as good, on the straight line between two looks; None if never."""
    before: Record | None = None
    for look in record["looks"]:
        now = look["bits"]["all"]
        if now <= bits:
            if before is None:
                return float(look["seconds"])
            was = before["bits"]["all"]
            return float(before["seconds"] + (look["seconds"] - before["seconds"]) * (was - bits) / (was - now))
        before = look
    return None


def table(records: list[Record]) -> str:
    """All runs, side by side; repeats of a side share a line."""
    lines = [
        "| side | minutes | parameters | tokens/s | tokens | bits per byte | by source | memory MB |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    groups: dict[tuple[str, float], list[Record]] = defaultdict(list)
    for record in records:
        groups[record["side"], record["minutes"]].append(record)
    for (side, minutes), runs in sorted(groups.items(), key=lambda item: min(map(_final, item[1]))):
        last = [run["looks"][-1] for run in runs]
        sources = ", ".join(f"{name} {bits:.3f}" for name, bits in last[0]["bits"].items() if name != "all")
        speed = statistics.median(look["tokens"] / look["seconds"] for look in last)
        finals = " and ".join(f"{_final(run):.4f}" for run in runs)
        memory = max(run["peak_memory"] for run in runs) / 1e6
        parameters, tokens = f"{runs[0]['parameters'] / 1e6:.1f}M", f"{last[0]['tokens'] / 1e6:.2f}M"
        cells = (side, f"{minutes:g}", parameters, f"{speed:.0f}", tokens, finals, sources, f"{memory:.0f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def verdicts(records: list[Record]) -> list[str]:
    """When we had what the best peer had at its end: of those with their own habits, and with a rate we chose."""
    said = []
    minutes = max((r["minutes"] for r in records if r["kind"] != "ours"), default=0.0)
    for kind, words in (("peer", "its own defaults"), ("tuned", "a learning rate that we chose for it")):
        if (other := best(records, minutes=minutes, kind=kind)) is None:
            continue
        said.append(f"The best peer with {words}: {other['side']}, {_final(other):.4f} after {minutes:g} minutes.")
        for run in (r for r in records if r["kind"] == "ours"):
            time = reached(run, _final(other))
            when = "never" if time is None else f"after {time / 60:.2f} minutes ({time / 60 / minutes:.0%} of its time)"
            who = f"{run['side']}, planned for {run['minutes']:g} minutes, seed {run['seed']}"
            said.append(f"- {who}: reached that {when}; ended at {_final(run):.4f}.")
    return said


def draw(records: list[Record], path: Path) -> None:
    """Bits per byte over minutes, a line a run; ours are drawn strong."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    colours: dict[str, str] = {}
    for record in records:
        side = record["side"]
        label = None if side in colours else side
        colour = colours.setdefault(side, f"C{len(colours)}")
        minutes = [look["seconds"] / 60 for look in record["looks"]]
        bits = [look["bits"]["all"] for look in record["looks"]]
        axes.plot(minutes, bits, color=colour, label=label, linewidth=2.2 if record["kind"] == "ours" else 1.2)
    longest = max(record["minutes"] for record in records)
    if (other := best(records, minutes=longest, kind="peer")) is not None:
        axes.axhline(_final(other), color="grey", linewidth=0.8, linestyle="--")
    axes.set(xlabel="minutes of training", ylabel="bits per byte, held out", ylim=(None, _top(records)))
    axes.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    plt.close(figure)


def _top(records: list[Record]) -> float:
    """The first looks are far above everything: cut where the second ones begin."""
    return max(record["looks"][min(1, len(record["looks"]) - 1)]["bits"]["all"] for record in records) * 1.02


def _final(record: Record) -> float:
    return float(record["looks"][-1]["bits"]["all"])
