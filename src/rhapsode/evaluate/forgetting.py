"""What tuning cost: bits per byte on general text, before and after, in pairs.

It is an `Evaluation` as any other, whose baseline is the model before: `comparison.saving` is negative where the tuned
model needs more bits, and `difference` of two of them compares two ways to tune.
"""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from rhapsode.core.events import Events
from rhapsode.engine.load import Loaded
from rhapsode.evaluate.arrays import Floats
from rhapsode.evaluate.bits_per_byte import BATCH_TOKENS, Measured, measure_bits
from rhapsode.evaluate.config import EvaluateConfig
from rhapsode.evaluate.evaluation import Comparison, Evaluation, HeldOutDocument, Row, paired
from rhapsode.evaluate.general import GeneralText, TextTokens, general_texts
from rhapsode.evaluate.interval import Draws, ratio
from rhapsode.model.decoder import Decoder
from rhapsode.text.tokenizer import Tokenizer


class Reader(NamedTuple):
    """A model and how it reads text."""

    model: Decoder
    tokenizer: Tokenizer


def general_text(
    before: Loaded | None,
    after: Loaded,
    texts: Sequence[GeneralText] | None,
    *,
    config: EvaluateConfig,
    events: Events,
) -> Evaluation | None:
    """`forgetting` as `config.task` asks for it; None where there is no model before, or it asks for no text.

    Args:
        texts: those that every Python has if None.
    """
    assert config.task is not None
    if before is None or (texts is None and config.task.general.documents == 0):
        return None
    if texts is None:
        texts = general_texts(config.task.general, seed=config.seed)
    then, now = (Reader(model.engine.model, model.tokenizer) for model in (before, after))
    return forgetting(then, now, texts, draws=Draws(config.confidence, config.resamples, config.seed), events=events)


def forgetting(
    before: Reader,
    after: Reader,
    texts: Sequence[GeneralText],
    *,
    draws: Draws,
    events: Events,
    clock: Callable[[], float] = time.monotonic,
) -> Evaluation:
    """Both models on the same texts, each with its own tokenizer and as much context as both have.

    Raises:
        RhapsodeError: a model gives no finite number.
    """
    context = min(reader.model.spec.context for reader in (before, after))
    stride = max(1, context // 2)
    rows: list[Row] = []
    found: list[Measured] = []
    for name, reader in (("after", after), ("before", before)):
        started = clock()
        measured = measure_bits(
            reader.model,
            TextTokens(texts, reader.tokenizer),
            documents=range(len(texts)),
            context=context,
            stride=stride,
            pad=reader.tokenizer.pad,
            begin=None,
            batch_tokens=BATCH_TOKENS,
            events=events,
        )
        found.append(measured)
        rows.append(_row(name, measured, draws, seconds=clock() - started))
    sizes = found[0].bytes.astype(float)
    bits, before_bits = (measured.bits for measured in found)
    return Evaluation(
        rows=tuple(rows),
        comparison=paired("before", bits=bits, other_bits=before_bits, sizes=sizes, draws=draws),
        gate=None,
        documents=_documents(texts, sizes, bits, before_bits),
        context=context,
        stride=stride,
        precision=str(after.model.embedding.weight.dtype).removeprefix("torch."),
        **draws._asdict(),
    )


def sentence(found: Comparison) -> str:
    """What became of general text, in words."""
    size = f"{abs(found.saving):.1%}"
    if found.saving_low is None or found.saving_high is None:
        return f"{size} {'fewer' if found.saving > 0 else 'more'} bits; too few documents for an interval"
    if found.saving_low <= 0 <= found.saving_high:
        more, low, high = -found.saving, -found.saving_high, -found.saving_low
        return f"no difference: {more:+z.1%} bits, interval {low:+z.1%} to {high:+z.1%}"
    if found.saving > 0:
        return f"better: {size} fewer bits, interval {found.saving_low:.1%} to {found.saving_high:.1%}"
    return f"worse: {size} more bits, interval {-found.saving_high:.1%} to {-found.saving_low:.1%}"


def _row(name: str, measured: Measured, draws: Draws, *, seconds: float) -> Row:
    sizes = measured.bytes.astype(float)
    estimate = ratio(measured.bits, of=sizes, draws=draws)
    return Row(name, *estimate, int(sizes.sum()), len(sizes), round(seconds, 3), "general text")


def _documents(
    texts: Sequence[GeneralText], sizes: Floats, bits: Floats, before: Floats
) -> tuple[HeldOutDocument, ...]:
    return tuple(
        HeldOutDocument(text.name, int(size), float(own), {"before": float(other)})
        for text, size, own, other in zip(texts, sizes, bits, before, strict=True)
    )
