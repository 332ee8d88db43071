"""The part of a run's page that tells how it learned: curves over its steps, and how its words changed."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

from rhapsode.core.events import Event
from rhapsode.core.report import Block, Chart, Code, Details, Heading, Note, Paragraph, Table
from rhapsode.core.report_chart import STYLES, Level, Marks, Series, line_chart, needs_log

REACH = 0.08
"""Of the way from the beginning: so far the smoothed loss looks to both sides."""
SHOWN_LOOKS = 6
SHOWN_PROMPTS = 2
LONGEST_PROMPT = 400


def learning(events: Sequence[Event], *, clip: float) -> list[Block]:
    """Curves and words.

    Args:
        clip: the largest norm of a gradient that moved the weights as it was.
    """
    steps = last_of_each(events, "step")
    marks = _left_out(events, steps)
    blocks: list[Block] = [Heading("How it learned")]
    blocks += [*_rewards(steps, last_of_each(events, "rewarded")), *_held_out(last_of_each(events, "validation"))]
    if steps:
        # the loss of answers that are judged against each other says nothing: it is about 0 whatever they are worth
        blocks += [] if "reward" in steps[-1].fields else [_loss(steps, marks)]
        blocks.append(_gradient(steps, marks, clip=clip))
        more = [
            _curve(steps, "learning_rate", "learning rate", "Learning rate"),
            _curve(steps, "tokens_per_second", "tokens a second", "Speed"),
        ]
        blocks.append(Details("Learning rate and speed", more))
    return [*blocks, *_mishaps(events, steps), *_words(last_of_each(events, "samples"))]


def last_of_each(events: Sequence[Event], kind: str) -> list[Event]:
    """Events of a kind by step; after a resume or a return to an earlier step the later one counts."""
    found = {event.fields["step"]: event for event in events if event.kind == kind}
    return [found[step] for step in sorted(found)]


def _held_out(looks: Sequence[Event]) -> list[Block]:
    """All held-out text, and where there are several sources each of the largest."""
    if not looks:
        return []
    at = [look.fields["step"] for look in looks]
    lines = [Series("all held-out text", at, [_value(look.fields, "bits_per_byte") for look in looks])]
    sources = list(looks[-1].fields.get("by_source", {}))
    if len(sources) > 1:
        lines += [
            Series(source, at, [_value(look.fields.get("by_source", {}), source) for look in looks])
            for source in sources[: STYLES - 1]
        ]
    unit = looks[-1].fields.get("unit", "bits per byte")
    return [line_chart(lines, x_label="step", y_label=unit, title="Held-out text while training")]


def _rewards(steps: Sequence[Event], looks: Sequence[Event]) -> list[Block]:
    """Where answers are sampled and judged: what they were worth, how long they were, and how many groups said much."""
    if not steps or "reward" not in steps[-1].fields:
        return []
    each = _series(steps, "reward", "sampled answers, each step")._replace(is_faint=True)
    lines = [Series("smoothed", each.x, smoothed(each.y)), each]
    if looks:
        lines.append(_series(looks, "reward", "likeliest answers to held-out prompts"))
    shares = [
        _series(steps, "solved", "answers that are right"),
        _series(steps, "cut", "answers cut at the most tokens"),
        _series(steps, "told_apart", "prompts whose answers are not all worth the same"),
    ]
    more = [
        line_chart(shares, x_label="step", y_label="share", title="Sampled answers"),
        _curve(steps, "answer_tokens", "tokens", "Length of an answer"),
    ]
    return [line_chart(lines, x_label="step", y_label="reward", title="Reward"), Details("Answers", more)]


def _loss(steps: Sequence[Event], marks: Marks | None) -> Chart:
    loss = _series(steps, "loss", "each step")._replace(is_faint=True)
    smooth = Series("smoothed", loss.x, smoothed(loss.y))
    title = "Training loss"
    return line_chart([smooth, loss], x_label="step", y_label="nats a token", title=title, log_x=True, marks=marks)


def _gradient(steps: Sequence[Event], marks: Marks | None, *, clip: float) -> Chart:
    norm = _series(steps, "grad_norm", "each step")._replace(is_faint=True)
    clipped = sum(1 for value in norm.y if value > clip)
    # of logarithms, as norms differ by factors: one large one does not lift its neighbours
    logs = smoothed([math.log(value) if value > 0 else math.nan for value in norm.y])
    return line_chart(
        [Series("smoothed", norm.x, [math.exp(value) for value in logs]), norm],
        x_label="step",
        y_label="norm of the gradient",
        title=f"Gradient norm: above {clip:g} in {clipped:,} of {len(norm.y):,} steps, and scaled down there",
        log_y=needs_log([*norm.y, clip]),
        level=Level(f"clipped above {clip:g}", clip),
        marks=marks,
    )


def _curve(steps: Sequence[Event], name: str, label: str, title: str) -> Chart:
    return line_chart([_series(steps, name, label)], x_label="step", y_label=label, title=title)


def _series(steps: Sequence[Event], field: str, name: str) -> Series:
    return Series(name, [step.fields["step"] for step in steps], [_value(step.fields, field) for step in steps])


def _value(fields: dict[str, Any], name: str) -> float:
    """What is written down as null was no finite number."""
    value = fields.get(name)
    return math.nan if value is None else float(value)


def _left_out(events: Sequence[Event], steps: Sequence[Event]) -> Marks | None:
    skipped = {event.fields["step"] for event in events if event.kind == "skipped"}
    skipped |= {step.fields["step"] for step in steps if not step.fields["moved"]}
    returned = {event.fields["step"] for event in events if event.kind == "rolled_back"}
    if not skipped | returned:
        return None
    what = "steps that were left out" + (", and from which the run went back" if returned else "")
    return Marks(what, sorted(skipped | returned))


def _mishaps(events: Sequence[Event], steps: Sequence[Event]) -> list[Block]:
    """What went wrong and was survived, in the words of the run."""
    blocks: list[Block] = []
    skipped = {event.fields["step"]: event.fields["reason"] for event in events if event.kind == "skipped"}
    if skipped:
        reasons = "; ".join(dict.fromkeys(str(reason) for reason in list(skipped.values())[:3]))
        text = f"{len(skipped):,} of {len(steps):,} steps were left out and moved nothing. For example: {reasons}."
        blocks.append(Note(text, title="Steps left out", tone="bad"))
    titles = {
        "rolled_back": "The run went back",
        "save_failed": "A checkpoint could not be written",
        "resumed_elsewhere": "Resumed with other settings",
    }
    for kind, title in titles.items():
        messages = [event.fields["message"] for event in events if event.kind == kind]
        if messages:
            again = f" (and {len(messages) - 1} more times)" if len(messages) > 1 else ""
            blocks.append(Note(f"{messages[-1]}{again}.", title=title, tone="plain"))
    return blocks


def _words(looks: Sequence[Event]) -> list[Block]:
    """What it made of the same beginnings, from its first step to its last."""
    if len(looks) < 2:
        return []
    shown = [looks[i] for i in spread(len(looks), count=SHOWN_LOOKS)]
    prompts = [sample["prompt"] for sample in looks[-1].fields["samples"]][:SHOWN_PROMPTS]
    blocks: list[Block] = [
        Heading("How its words changed"),
        Paragraph("The same beginning, continued by the weights of different steps with the same seed."),
    ]
    for prompt in prompts:
        rows = [
            (f"{look.fields['step']:,}", sample["completion"])
            for look in shown
            for sample in look.fields["samples"]
            if sample["prompt"] == prompt
        ]
        shown_prompt = prompt if len(prompt) <= LONGEST_PROMPT else f"… {prompt[-LONGEST_PROMPT:]}"
        table = Table(("step", "went on with"), rows, numeric=("step",), written=("went on with",))
        blocks += [Code(shown_prompt, caption="After this beginning"), table]
    return blocks


def spread(length: int, *, count: int) -> list[int]:
    """Places in a list of `length`: the first, the last and some between, closer together at the beginning."""
    if length <= count:
        return list(range(length))
    ratio = (length - 1) ** (1 / (count - 1))
    places = [0, *(round(ratio**i) for i in range(1, count))]
    for i in range(1, count):
        places[i] = max(places[i], places[i - 1] + 1)
    return places


def smoothed(values: Sequence[float]) -> list[float]:
    """The mean of each value and its neighbours: the later, the more, as suits a logarithmic axis.

    They are taken from both sides, so that it lags behind nowhere but at the end. Where there is no number, that of
    the neighbours stands.
    """
    sums = [0.0, *itertools.accumulate(0.0 if math.isnan(value) else value for value in values)]
    counts = [0, *itertools.accumulate(int(not math.isnan(value)) for value in values)]
    smooth: list[float] = []
    for i in range(len(values)):
        reach = round(i * REACH)
        first, stop = i - reach, min(i + reach + 1, len(values))
        count = counts[stop] - counts[first]
        smooth.append((sums[stop] - sums[first]) / count if count else math.nan)
    return smooth
