"""Results that several verbs show."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from rich.console import Console
from rich.text import Text

from rhapsode.cli.console import table
from rhapsode.core.units import format_bytes, format_count, format_seconds
from rhapsode.evaluate.evaluation import Evaluation
from rhapsode.evaluate.paired import points
from rhapsode.evaluate.task_evaluation import Score, TaskEvaluation, range_of
from rhapsode.recipe.plan import Plan
from rhapsode.recipe.report import Spoken
from rhapsode.recipe.samples import SampleToken
from rhapsode.train.forecast import Forecast

SHOWN_PROMPT_LINES = 8
SHOWN_SOURCES = 100


def show_plan(console: Console, plan: Plan, cost: Forecast, *, with_samples: bool = False) -> None:
    """What was settled and why, what it will cost, and rows as the model will see them (its targets in bold)."""
    rows = [(decision.name, decision.value, decision.because) for decision in plan.decisions]
    console.print(table(f"Plan {plan.hash[:12]}", ("", "", ""), rows))
    console.print(table("Forecast", ("", ""), list(_costs(plan, cost))))
    for sample in plan.samples if with_samples else []:
        sources = ", ".join(dict.fromkeys(sample.sources))
        console.print(
            Text(
                f"Row {sample.row}: {sample.trained} targets, {sample.padding} padding, {_short(sources)}", style="bold"
            )
        )
        for sequence in sample.sequences:
            console.print(_tokens(sequence))


def show_evaluation(console: Console, found: Evaluation) -> None:
    rows = []
    for row in found.rows:
        interval = "" if row.low is None or row.high is None else f"{row.low:.3f} to {row.high:.3f}"
        rows.append(
            (row.name, f"{row.bits_per_byte:.3f}", interval, str(row.documents), format_bytes(row.bytes), row.note)
        )
    columns = ("", "bits/byte", f"{found.confidence:.0%} interval", "documents", "size", "")
    console.print(table("Held-out text", columns, rows, right=(1, 3, 4)))
    if found.gate is not None:
        console.print(f"gate {'passed' if found.gate.passed else 'not passed'}: {found.gate.sentence}", soft_wrap=True)


def show_task(console: Console, found: TaskEvaluation) -> None:
    """What answers are worth before and after, and the verdict."""
    models = [("after", found.after), *([("before", found.before)] if found.before is not None else [])]
    rows = [
        (score.scorer, name, points(score.value), _range(score), f"{model.prompt}, {model.shots:.0f} examples")
        for name, model in models
        for score in model.scores
    ]
    columns = ("", "", "points", f"{found.confidence:.0%} interval", "asked")
    console.print(table("What its answers are worth", columns, rows, right=(2,)))
    console.print(Text(found.verdict, style="bold"), soft_wrap=True)
    if found.gate is not None:
        console.print(
            Text(f"gate {'passed' if found.gate.passed else 'not passed'}: {found.gate.sentence}"), soft_wrap=True
        )


def show_spoken(console: Console, spoken: Sequence[Spoken]) -> None:
    """The end of each prompt, dim, and what the model wrote after it."""
    for sample in spoken:
        lines = sample.prompt.splitlines(keepends=True)
        end = "".join(lines[-SHOWN_PROMPT_LINES:])
        where = f"{sample.source}, held out: {sample.name}" if sample.source else "a prompt of the recipe"
        console.print(Text(where.removesuffix(": "), style="bold"))
        console.print(Text.assemble((end, "dim"), (sample.completion.rstrip(), "green")), soft_wrap=True)
        console.print()


def _range(score: Score) -> str:
    return range_of(score).removeprefix("interval ")


def _costs(plan: Plan, cost: Forecast) -> Iterator[tuple[str, str]]:
    yield "time", f"{format_seconds(cost.seconds)} for {plan.train.steps} steps"
    yield "speed", f"{format_count(cost.tokens_per_second)} tokens/s, {cost.utilisation:.0%} of the measured peak"
    yield "memory", format_bytes(cost.memory_bytes)
    yield "disk", format_bytes(cost.disk_bytes)


def _tokens(sequence: Sequence[SampleToken]) -> Text:
    """Targets in bold and green; what is only read stands in ⟦ ⟧, so that it shows without colours too."""
    runs = groupby(sequence, key=lambda token: token.is_trained)
    texts = ((is_trained, "".join(token.text for token in run)) for is_trained, run in runs)
    shown = [
        Text(text, style="bold green") if is_trained else Text(f"⟦{text}⟧", style="dim") for is_trained, text in texts
    ]
    return Text("").join(shown)


def _short(sources: str) -> str:
    return sources if len(sources) <= SHOWN_SOURCES else f"{sources[:SHOWN_SOURCES]}..."
