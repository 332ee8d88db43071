"""The plan as a page: what will be learned, token by token, every number with its reason, and what it will cost."""

from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np

from rhapsode.core.report import Block, Details, Figure, Figures, Heading, Learned, Paragraph, Report, Run, Table
from rhapsode.core.units import format_bytes, format_count, format_seconds
from rhapsode.corpus.tokens import MISMATCHED, SPLITS
from rhapsode.corpus.trees import num_learned, num_shared
from rhapsode.recipe.plan import Plan
from rhapsode.recipe.samples import Sample, SampleToken
from rhapsode.train.forecast import Forecast
from rhapsode.train.objectives.balance import balance_of
from rhapsode.train.objectives.registry import samples_answers


def plan_page(plan: Plan, cost: Forecast) -> Report:
    """Made of what was settled alone; nothing has been spent yet."""
    purpose = plan.recipe.task.purpose
    blocks: list[Block] = [Figures(list(_figures(plan, cost))), Heading("What will be learned"), _said(plan)]
    blocks += [*_feedback(plan), _lengths(plan)] if plan.recipe.data.examples else []
    blocks += [_rows(sample) for sample in plan.samples]
    decisions = Table(("what", "value", "because"), [(d.name, d.value, d.because) for d in plan.decisions])
    blocks += [Heading("Every number, and why"), decisions]
    subtitle = f"{purpose} " if purpose else ""
    return Report(f"The plan of {plan.name}", blocks, f"{subtitle}Nothing has been spent yet.", f"plan {plan.hash}")


def _figures(plan: Plan, cost: Forecast) -> Iterator[Figure]:
    yield Figure("time", format_seconds(cost.seconds), f"{plan.train.steps:,} steps")
    yield Figure("memory", format_bytes(cost.memory_bytes), f"disk {format_bytes(cost.disk_bytes)}")
    training = plan.data.training
    share = training.num_targets / max(1, training.num_places)
    yield Figure("learned tokens", format_count(training.num_targets), f"{share:.0%} of those that are read")
    yield Figure("rows", f"{training.num_rows:,}", f"of {training.context:,} tokens, {training.efficiency:.0%} filled")


def _said(plan: Plan) -> Paragraph:
    if not plan.recipe.data.examples:
        return Paragraph("Rows as the model will see them. Every token that is marked must be predicted.")
    if samples_answers(plan.train.objective):
        return Paragraph(
            "What is not marked is asked, and the model learns from its own answers. What is marked is the answer that "
            "is wanted: it is read by what judges, and never learned."
        )
    said = "Rows as the model will see them. What is marked must be predicted; the rest is only read. Nothing is cut: "
    said += "every sequence stands in a row as a whole, and sees no other."
    if shared := num_shared(plan.data.tokens.split("train"), plan.data.training):
        read = shared + plan.data.training.num_places
        said += f" {shared:,} of {read:,} tokens to read are shared: what sequences begin with alike is computed once."
    return Paragraph(said)


def _feedback(plan: Plan) -> list[Block]:
    """How many answers are good and bad, and what stands beside them."""
    found = [(name, balance_of(plan.data.tokens.split(name).roles)) for name in SPLITS]
    rows = [(name, f"{one.good:,}", f"{one.bad:,}") for name, one in found if one is not None]
    if not rows:
        return []
    beside = (
        "Behind each answer stands one to something else, and nothing of it is learned: how likely such answers become "
        "says how far the model has gone from its base."
    )
    return [Table(("answers", "good", "bad"), rows, numeric=("good", "bad")), Paragraph(beside)]


def _lengths(plan: Plan) -> Table:
    """How long sequences are, and how much of them is learned; none has nothing."""
    rows = []
    for name in ("train", "validation"):
        split = plan.data.tokens.split(name)
        looked_at = {index for index, role in enumerate(split.roles) if role == MISMATCHED}
        learned = np.array([num_learned(split, i) for i in range(split.num_documents) if i not in looked_at])
        for what, values in (("read", split.lengths), ("learned", learned)):
            low, middle, most, top = np.percentile(values, (0, 50, 95, 100)).astype(int).tolist()
            rows.append((f"{name}, {what}", f"{len(values):,}", f"{low:,}", f"{middle:,}", f"{most:,}", f"{top:,}"))
    columns = ("tokens of a sequence", "sequences", "least", "median", "95% have at most", "most")
    return Table(columns, rows, numeric=columns[1:])


def _rows(sample: Sample) -> Block:
    sequences = [_runs(tokens) for tokens in sample.sequences]
    sources = list(dict.fromkeys(sample.sources))
    title = f"Row {sample.row}: {sample.trained:,} learned, {sample.padding:,} padding"
    shown = Learned(title, sequences, f"{len(sample.sources):,} sequences, the first of {sources[0]}")
    return shown if len(sources) < 2 else Details(title, [shown, Paragraph(", ".join(sources))], is_open=True)


def _runs(tokens: Sequence[SampleToken]) -> list[Run]:
    return [Run([t.text for t in run], is_learned) for is_learned, run in groupby(tokens, key=lambda t: t.is_trained)]
