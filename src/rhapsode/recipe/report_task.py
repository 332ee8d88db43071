"""What answers to held-out questions were worth: a part of a run's page, and a section of the model card."""

from collections.abc import Sequence
from typing import Literal

from rhapsode.core.report import (
    Bar,
    Bars,
    Block,
    Code,
    Details,
    Figure,
    Figures,
    Heading,
    Note,
    Paragraph,
    Table,
)
from rhapsode.evaluate.evaluation import Evaluation, Row
from rhapsode.evaluate.forgetting import sentence
from rhapsode.evaluate.paired import Change, around, points
from rhapsode.evaluate.scorers.registry import known
from rhapsode.evaluate.task_evaluation import (
    Answered,
    LabelScore,
    Likelihood,
    Score,
    SideBySide,
    TaskEvaluation,
    range_of,
)

MOST_BARS = 20
MOST_CONFUSIONS = 12
LONGEST_TITLE = 90
HEADING = "## What its answers are worth"
MOST_MOVED = 5


_TONES: dict[str, Literal["good", "bad"]] = {"better": "good", "worse": "bad"}


def task_blocks(found: TaskEvaluation) -> list[Block]:
    """Verdict first, then numbers, pictures, examples, and what was forgotten."""
    return [
        _verdict(found),
        *_gate(found),
        Figures(_figures(found)),
        Heading("What its answers are worth"),
        *_scores(found),
        *_labels(found),
        *(_likelihoods(found.likelihoods) if found.likelihoods else _changed(found)),
        *_examples(found.examples),
        *_forgotten(found.general),
    ]


def task_section(found: TaskEvaluation) -> str:
    """Markdown for the model card."""
    columns, rows = _score_rows(found)
    lines = [
        HEADING,
        "",
        f"**{_escaped(found.verdict)}**",
        "",
        _line(columns),
        _line(["---"] * len(columns)),
        *(_line(row) for row in rows),
        "",
        _how(found),
    ]
    return "\n".join(lines) + "\n"


def _verdict(found: TaskEvaluation) -> Note:
    if not found.changes:
        return Note(found.verdict, title="Nothing to compare with")
    word = _word(found.changes[0])
    return Note(found.verdict, title=word.capitalize(), tone=_TONES.get(word, "plain"))


def _gate(found: TaskEvaluation) -> list[Block]:
    if found.gate is None:
        return []
    passed = found.gate.passed
    title = "Gate passed" if passed else "Gate not passed"
    return [Note(found.gate.sentence, title=title, tone="good" if passed else "bad")]


def _figures(found: TaskEvaluation) -> list[Figure]:
    """The scorer that decides: after, before, and the difference."""
    first = found.after.scores[0]
    figures = [Figure(first.scorer, points(first.value), range_of(first))]
    if found.before is not None:
        earlier = found.before.scores[0]
        figures.append(Figure("before", points(earlier.value), range_of(earlier)))
    if found.changes:
        figures.append(Figure("difference", _signed(found.changes[0].difference), "points of 100"))
    figures.append(
        Figure(_kind(found), f"{len(found.items):,}", f"{len({item.group for item in found.items}):,} prompts")
    )
    return figures


def _scores(found: TaskEvaluation) -> list[Block]:
    columns, rows = _score_rows(found)
    models = [("before", found.before), ("after", found.after)]
    bars = [
        Bar(f"{one.scorer}, {name}", one.value, _with_range(one), is_marked=name == "after")
        for number in range(len(found.after.scores))
        for name, model in models
        if model is not None
        for one in [model.scores[number]]
    ]
    return [
        Table(columns, rows, strong=0, numeric=columns[1:]),
        Bars(bars, "Points of 100", whole=1),
        Paragraph(_how(found)),
    ]


def _score_rows(found: TaskEvaluation) -> tuple[list[str], list[list[str]]]:
    """A row for each scorer; what "before" would fill is left out where there was none."""
    if found.before is None:
        return ["scorer", "points of 100"], [[one.scorer, _with_range(one)] for one in found.after.scores]
    rows = [
        [
            after.scorer,
            _with_range(before),
            _with_range(after),
            _difference(change),
            _word(change),
            f"{change.wins:,} : {change.losses:,}",
        ]
        for before, after, change in zip(found.before.scores, found.after.scores, found.changes, strict=True)
    ]
    return ["scorer", "before", "after", "difference", "verdict", "won : lost"], rows


def _with_range(score: Score) -> str:
    if score.low is None or score.high is None:
        return points(score.value)
    return points(score.value) + _brief(score.value, score.low, score.high)


def _difference(change: Change) -> str:
    if change.low is None or change.high is None:
        return _signed(change.difference)
    return _signed(change.difference) + _brief(change.difference, change.low, change.high)


def _brief(value: float, low: float, high: float) -> str:
    """An interval for a cell."""
    return around(value, low, high).replace(", interval", ",")


def _word(change: Change) -> str:
    if change.low is None:
        return "too few to tell"
    if change.is_none:
        return "no difference"
    return "better" if change.difference > 0 else "worse"


def _how(found: TaskEvaluation) -> str:
    """What the numbers mean, and how they came to be."""
    meanings = "; ".join(f"{score.scorer}: {known(score.scorer).what}" for score in found.after.scores)
    interval = f"{found.confidence:.0%} intervals: what other {_kind(found)} of this kind could give."
    if found.likelihoods:
        return (
            f"Points of 100; 50 is chance. {meanings}. {len(found.items):,} held-out {_kind(found)}, which both models "
            f"read as the same tokens. {interval}"
        )
    greedy = "the likeliest token" if found.temperature == 0 else f"temperature {found.temperature:g}"
    before = f" Before, the model was asked {found.before.prompt}." if found.before is not None else ""
    return (
        f"Points of 100. {meanings}. {len(found.items):,} held-out questions, answers of at most {found.max_tokens} "
        f"tokens, {greedy}.{before} {interval}"
    )


def _kind(found: TaskEvaluation) -> str:
    """What was judged."""
    if not found.likelihoods:
        return "questions"
    return "pairs" if found.likelihoods[0].kind == "chosen" else "answers"


def _likelihoods(found: Sequence[Likelihood]) -> list[Block]:
    """How likely answers of each kind are: often all of them become less so, the unwanted ones most."""
    is_compared = found[0].before is not None
    rows = [
        (one.kind, f"{one.answers:,}", *([f"{one.before:.3f}"] if one.before is not None else []), f"{one.after:.3f}")
        for one in found
    ]
    columns = ("answers", "number", *(["before"] if is_compared else []), "after")
    return [Table(columns, rows, "ln p of one of their tokens, in the mean", numeric=columns[1:])]


def _labels(found: TaskEvaluation) -> list[Block]:
    """How each label fares, the ones that changed most first where there are many, and what is taken for what."""
    if not found.labels:
        return []
    shown = sorted(found.labels, key=lambda label: -abs(label.after - (label.before or 0)) / label.items)[:MOST_BARS]
    some = f", the {MOST_BARS} that changed most of {len(found.labels)}" if len(found.labels) > len(shown) else ""
    bars = [_bar(label) for label in sorted(shown, key=lambda label: label.label)]
    colour = "; coloured where more than before" if found.before is not None else ""
    blocks: list[Block] = [Bars(bars, f"Right answers of each label{some}{colour}", whole=1)]
    if found.confusions:
        rows = [
            (c.wanted, c.given or "no label", "" if c.before is None else f"{c.before:,}", f"{c.after:,}")
            for c in found.confusions[:MOST_CONFUSIONS]
        ]
        columns = ("wanted", "given", "before", "after")
        blocks.append(Table(columns, rows, "Most frequent mistakes of both", numeric=columns[2:]))
    return blocks


def _bar(label: LabelScore) -> Bar:
    before = "" if label.before is None else f"before {label.before:,}"
    text = f"{label.after:,} of {label.items:,}"
    return Bar(
        label.label,
        label.after / label.items,
        text,
        before,
        is_marked=label.before is None or label.after > label.before,
    )


def _changed(found: TaskEvaluation) -> list[Block]:
    """How answers themselves changed, and the prompts that were tried."""
    models = [model for model in (found.before, found.after) if model is not None]
    rows = [
        ("asked", *(model.prompt for model in models)),
        ("tokens of an answer", *(f"{model.tokens:.1f}" for model in models)),
        (f"cut at {found.max_tokens} tokens", *(_of(model.cut, found) for model in models)),
        ("without a word", *(_of(model.empty, found) for model in models)),
    ]
    if found.after.unknown is not None:
        rows.append(("that name no label", *(_of(model.unknown or 0, found) for model in models)))
    names = ("before", "after") if len(models) == 2 else ("after",)
    return [Table(("answers", *names), rows, "What changed", numeric=names), *_tried(found.before)]


def _of(count: int, found: TaskEvaluation) -> str:
    return f"{count:,} ({count / len(found.items):.1%})"


def _tried(before: Answered | None) -> list[Block]:
    if before is None or len(before.tried) < 2:
        return []
    rows = [(one.prompt, "" if one.value is None else points(one.value)) for one in before.tried]
    caption = f"The best prompt for the model before, found on {before.tried_items} training examples."
    columns = ("prompt", before.scores[0].scorer)
    best = [one.prompt for one in before.tried].index(before.prompt)
    table = Table(columns, rows, caption, numeric=columns[1:], strong=best)
    return [Details("Prompts that were tried", [table])]


def _examples(examples: Sequence[SideBySide]) -> list[Block]:
    if not examples:
        return []
    is_compared = any(one.gain is not None for one in examples)
    how = "Those that gained most and those that lost most, " if is_compared else "Some that a hash drew, "
    shown = [_example(one, is_open=number == 0) for number, one in enumerate(examples)]
    return [Heading("Answers side by side"), Paragraph(f"{how}as they are."), *shown]


def _example(one: SideBySide, *, is_open: bool) -> Details:
    rows = [("wanted", one.wanted), ("not wanted", one.unwanted), ("before", one.before), ("after", one.after)]
    shown = [(name, text) for name, text in rows if text or (name in ("before", "after") and text is not None)]
    gain = "" if one.gain is None else f"{_signed(one.gain)} points: "
    question = " ".join(one.prompt.split())
    title = question if len(question) <= LONGEST_TITLE else f"... {question[-LONGEST_TITLE:]}"
    blocks: list[Block] = [Code(one.prompt, "Question"), Table(("", "text"), shown, written=("text",))]
    return Details(gain + title, blocks, is_open=is_open)


def _forgotten(general: Evaluation | None) -> list[Block]:
    """General text before and after, and the documents that moved most."""
    if general is None or general.comparison is None:
        return []
    rows = [(row.name, f"{row.bits_per_byte:.4f}", _bits_range(row)) for row in general.rows]
    moved = sorted(general.documents, key=lambda d: -(d.bits - d.baselines["before"]) / d.bytes)[:MOST_MOVED]
    most = [
        (d.id.partition("#")[0], f"{d.baselines['before'] / d.bytes:.3f}", f"{d.bits / d.bytes:.3f}") for d in moved
    ]
    columns = ("document", "before", "after")
    interval = f"{general.confidence:.0%} interval"
    return [
        Heading("What it forgot"),
        Paragraph(f"General text, which has nothing to do with the task: {sentence(general.comparison)}."),
        Table(
            ("", "bits per byte", interval),
            rows,
            f"{len(general.documents)} documents of English prose and Python: fewer bits are better.",
            numeric=("bits per byte",),
        ),
        Details("Documents that lost most", [Table(columns, most, "bits per byte", numeric=columns[1:])]),
    ]


def _bits_range(row: Row) -> str:
    return "" if row.low is None or row.high is None else f"{row.low:.3f} to {row.high:.3f}"


def _signed(share: float) -> str:
    text = points(share)
    return text if text.startswith("-") or text == "0.0" else f"+{text}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_escaped, cells))} |"


def _escaped(text: str) -> str:
    """What somebody named in the recipe must not break a table."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")
