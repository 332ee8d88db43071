"""The page of a run: how good the model is, how it came to be, and from what."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rhapsode import __version__
from rhapsode.core.events import Event
from rhapsode.core.manifest import digest, num_bytes
from rhapsode.core.report import (
    Bar,
    Bars,
    Block,
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
from rhapsode.core.units import format_bytes, format_count, format_seconds
from rhapsode.evaluate.evaluation import Evaluation
from rhapsode.evaluate.task_evaluation import TaskEvaluation
from rhapsode.recipe.plan import Plan
from rhapsode.recipe.report_cost import cost
from rhapsode.recipe.report_learning import last_of_each, learning
from rhapsode.recipe.report_task import task_blocks


@dataclass(frozen=True)
class Spoken:
    """A prompt, what the model wrote, and what really followed where that is known."""

    prompt: str
    completion: str
    followed: str
    source: str
    name: str


def write_report(
    run_dir: Path,
    *,
    plan: Plan,
    model: Path,
    evaluation: Evaluation | None,
    spoken: Sequence[Spoken],
    task: TaskEvaluation | None,
    events: Sequence[Event],
) -> Path:
    """Write `run_dir/report.html`."""
    steps = last_of_each(events, "step")
    blocks: list[Block] = [
        *([] if task is None else task_blocks(task)),
        *([] if evaluation is None else _quality(plan, evaluation, steps)),
        *learning(events, clip=plan.train.clip),
        *_samples(spoken),
        *_data(plan),
        *_making(plan, events),
        *_provenance(plan, model),
    ]
    path = run_dir / "report.html"
    Report(
        plan.name,
        blocks,
        subtitle=plan.recipe.task.purpose,
        footer=f"Rhapsode {__version__}. What the model writes is a draft: a person checks it.",
    ).write(path)
    return path


def _quality(plan: Plan, evaluation: Evaluation, steps: Sequence[Event]) -> list[Block]:
    model, best = evaluation.model, evaluation.comparison
    figures = [Figure("bits per byte", f"{model.bits_per_byte:.3f}", _interval(model.low, model.high, evaluation))]
    if best is not None:
        low_high = _interval(best.saving_low, best.saving_high, evaluation, percent=True)
        word = "fewer" if best.saving >= 0 else "more"
        figures.append(Figure(f"{word} bits than {best.other}", f"{abs(best.saving):.1%}", low_high))
    figures.append(Figure("parameters", format_count(plan.train.spec.parameters), f"{plan.train.spec.family}-shaped"))
    if steps:
        figures.append(Figure("trained tokens", format_count(steps[-1].fields["tokens"]), f"{plan.train.steps} steps"))
    return [Figures(figures), *bits_blocks(evaluation)]


def bits_blocks(evaluation: Evaluation) -> list[Block]:
    """The gate, where there is one, and bits per byte of the model and of each baseline."""
    model = evaluation.model
    blocks: list[Block] = []
    if evaluation.gate is not None:
        if evaluation.gate.passed:
            blocks.append(Note(evaluation.gate.sentence, title="Gate passed", tone="good"))
        else:
            blocks.append(Note(evaluation.gate.sentence, title="Gate not passed", tone="bad"))
    interval = f"{evaluation.confidence:.0%} interval"
    rows = [(row.name, f"{row.bits_per_byte:.4f}", _range(row.low, row.high), row.note) for row in evaluation.rows]
    caption = (
        f"Bits per byte of {format_bytes(model.bytes)} in {model.documents} held-out documents: fewer is better. "
        "The interval is what other held-out documents of this kind could have given."
    )
    blocks += [
        Heading("How good it is"),
        Table(("", "bits per byte", interval, "what it is"), rows, caption, numeric=("bits per byte",), strong=0),
    ]
    return blocks


def _interval(low: float | None, high: float | None, evaluation: Evaluation, *, percent: bool = False) -> str:
    shown = _range(low, high, percent=percent)
    return shown if low is None else f"{evaluation.confidence:.0%}: {shown}"


def _range(low: float | None, high: float | None, *, percent: bool = False) -> str:
    if low is None or high is None:
        return "too few documents for an interval"
    return f"{low:.1%} to {high:.1%}" if percent else f"{low:.3f} to {high:.3f}"


def _samples(spoken: Sequence[Spoken]) -> list[Block]:
    if not spoken:
        return []
    shown = [Sample(s.prompt, s.completion, title=s.name, source=s.source, followed=s.followed) for s in spoken]
    intro = (
        "Prompts from held-out documents, and what the model wrote after them. Nothing was picked: a hash drew them."
    )
    return [Heading("In its own words"), Paragraph(intro), *shown]


def _data(plan: Plan) -> list[Block]:
    report = json.loads((plan.corpus / "report.json").read_text(encoding="utf-8"))
    documents = report["documents"]
    dropped, skipped_files = documents["dropped_by_reason"], report["files"]["skipped_by_reason"]
    bars = [Bar("kept", documents["kept"], f"{documents['kept']:,}", is_marked=True)]
    for reason, row in dropped.items():
        example = ", ".join(e["source"] for e in row["examples"][:2])
        bars.append(Bar(reason, row["count"], f"{row['count']:,}", f"{row['stage']}; for example {example}"))
    blocks: list[Block] = [
        Heading("What it learned from"),
        Paragraph(
            f"{documents['read']:,} documents were read: {documents['kept']:,} kept, "
            f"{documents['dropped']:,} dropped, each for a reason and kept aside."
        ),
        Bars(bars, "documents"),
    ]
    if skipped_files:
        rows = [(reason, f"{row['count']:,}", row["examples"][0]["source"]) for reason, row in skipped_files.items()]
        table = Table(("reason", "files", "for example"), rows, numeric=("files",))
        blocks.append(Details(f"Files that were not read ({report['files']['skipped']:,})", [table]))
    return [*blocks, _sources(report), _tokens(plan)]


def _sources(report: dict[str, Any]) -> Table:
    rows = [
        (r["source"], r["format"], f"{r['files']:,}", f"{r['read']:,}", f"{r['kept']:,}", format_bytes(r["kept_bytes"]))
        for r in report["sources"]
    ]
    columns = ("source", "format", "files", "read", "kept", "text kept")
    return Table(columns, rows, numeric=columns[2:])


def _tokens(plan: Plan) -> Table:
    rows = []
    for name, packing in (("train", plan.data.training), ("validation", plan.data.held_out)):
        split = plan.data.tokens.split(name)
        rows.append(
            (
                name,
                f"{split.num_documents:,}",
                format_bytes(split.num_bytes),
                f"{split.num_tokens:,}",
                f"{split.num_bytes / max(1, split.num_tokens):.2f}",
                f"{packing.num_rows:,} x {packing.context}",
                f"{packing.efficiency:.1%}",
            )
        )
    columns = ("split", "documents", "text", "tokens", "bytes a token", "rows", "filled")
    return Table(columns, rows, numeric=columns[1:])


def _making(plan: Plan, events: Sequence[Event]) -> list[Block]:
    costs: dict[str, float] = {}
    for event in events:
        if event.kind == "stage" and event.fields["state"] == "done":
            costs[event.fields["name"]] = costs.get(event.fields["name"], 0.0) + event.fields["seconds"]
    cost_rows = [(name, format_seconds(seconds)) for name, seconds in costs.items()]
    spec = plan.train.spec
    sizes = [
        ("corpus", format_bytes(num_bytes(plan.corpus))),
        ("tokens", format_bytes(num_bytes(plan.data.tokens.path))),
        ("one checkpoint's weights", format_bytes(4 * spec.parameters)),
    ]
    decisions = [(d.name, d.value, d.because) for d in plan.decisions]
    return [
        Heading("How it was made"),
        *cost(events),
        Table(("step", "took"), cost_rows, numeric=("took",)),
        Table(("what", "size on disk"), sizes, numeric=("size on disk",)),
        Details("Every number and its formula", [Table(("what", "value", "because"), decisions)]),
    ]


def _provenance(plan: Plan, model: Path) -> list[Block]:
    hashes = [
        ("plan", plan.hash),
        ("model", digest(model)),
        *([("base", f"{plan.base.title}, {plan.base.sha256}")] if plan.base else []),
        *([("teacher", f"{plan.teacher.title}, {plan.teacher.sha256}")] if plan.teacher else []),
        ("corpus", digest(plan.corpus)),
        ("tokens", digest(plan.data.tokens.path)),
        ("code", f"rhapsode {__version__}, torch {plan.settled['code']['torch']}"),
        ("computed on", ", ".join(f"{k} {v}" for k, v in plan.settled["machine"].items())),
    ]
    return [Heading("Provenance"), Definitions(hashes)]
