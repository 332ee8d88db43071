"""Measure a model on held-out documents, beside baselines on the same documents."""

import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from rhapsode.core.errors import RhapsodeError
from rhapsode.core.events import Events
from rhapsode.corpus.tokens import Tokens, TokenSplit
from rhapsode.evaluate import held_out
from rhapsode.evaluate.arrays import Floats
from rhapsode.evaluate.baselines import Baseline, Before, baseline
from rhapsode.evaluate.bits_per_byte import BATCH_TOKENS, measure_bits
from rhapsode.evaluate.config import EvaluateConfig
from rhapsode.evaluate.evaluation import Comparison, Evaluation, Gate, HeldOutDocument, Row, paired
from rhapsode.evaluate.interval import Draws, ratio
from rhapsode.model.decoder import Decoder
from rhapsode.text.tokenizer import Tokenizer


def evaluate(
    model: Decoder,
    tokens: Path,
    *,
    corpus: Path,
    config: EvaluateConfig,
    root: Path,
    events: Events,
    context: int | None = None,
    begin: int | None = None,
    base: Path | None = None,
    base_tokens: Path | None = None,
    name: str = "model",
    clock: Callable[[], float] = time.monotonic,
) -> Evaluation:
    """The model's bits per byte, those of each baseline, and whether the gate is passed.

    Args:
        model: measured in the type of its weights.
        tokens: the tokens directory; its tokenizer must be the model's.
        corpus: the corpus that the tokens were made from.
        config: the recipe's section.
        root: where baselines are kept and found again.
        events: hears "progress", and "evaluated" once for each row.
        context: most tokens that the model sees at once, windows sliding by half of it; never more than it was made
            for, which is what None takes.
        begin: the id that every window begins with; None leaves those from the middle of a document as they are.
        base: the model that training started from, which is a baseline too.
        base_tokens: the same corpus in its own vocabulary, where that is another.
        name: of the model's row.
        clock: seconds.

    Raises:
        RhapsodeError: nothing is held out, the tokens have ids that the model does not know, or the model gives no
            finite number.
    """
    if model.spec.head is not None:
        raise RhapsodeError(
            f"{name} does not write: it {model.spec.head.purpose}, and has no bits per byte",
            "`rhapsode run` judges it by evaluate.task.scorers",
        )
    opened = Tokens.open(tokens)
    split, tokenizer = opened.split("validation"), Tokenizer.load(opened.tokenizer_dir)
    _require_known(split, model, where=tokens)
    documents = held_out.draw(split, most=config.documents, seed=config.seed)
    context = min(context or model.spec.context, model.spec.context)
    stride = max(1, context // 2)
    precision = str(model.embedding.weight.dtype).removeprefix("torch.")
    started = clock()
    measured = measure_bits(
        model,
        split,
        documents=documents,
        context=context,
        stride=stride,
        pad=tokenizer.pad,
        begin=begin,
        batch_tokens=BATCH_TOKENS,
        events=events,
    )
    telling = _Telling(events, measured.bytes.astype(float), Draws(config.confidence, config.resamples, config.seed))
    note = f"context {context} tokens, windows sliding by {stride}, {precision}"
    rows = [telling.row(name, measured.bits, seconds=clock() - started, note=note)]
    before = None if base is None else Before(base, context, stride, begin)
    of_base = base_tokens or tokens
    ask = functools.partial(baseline, corpus=corpus, documents=documents, config=config, root=root, before=before)
    found: list[Baseline] = []
    for which in config.baselines:
        if (which == "base" and before is None) or (which != "base" and split.is_learned_in_part):
            continue  # a compressor has no idea of what is an answer
        started = clock()
        one = ask(which, of_base if which == "base" else tokens, events=events)
        found.append(one)
        rows.append(telling.row(which, one.bits, seconds=clock() - started, note=one.note))

    comparison = _with_best(measured.bits, found, sizes=telling.sizes, draws=telling.draws)
    return Evaluation(
        rows=tuple(rows),
        comparison=comparison,
        gate=gate(comparison, below=config.gate.below_best_baseline),
        documents=_documents(split, documents, measured.bits, found),
        context=context,
        stride=stride,
        precision=precision,
        **telling.draws._asdict(),
    )


class _Telling(NamedTuple):
    """Makes rows over documents of these sizes, and tells of each as it is made."""

    events: Events
    sizes: Floats
    draws: Draws

    def row(self, name: str, bits: Floats, *, seconds: float, note: str) -> Row:
        value, low, high = ratio(bits, of=self.sizes, draws=self.draws)
        self.events.emit("evaluated", name=name, bits_per_byte=value, low=low, high=high)
        return Row(name, value, low, high, int(self.sizes.sum()), len(self.sizes), round(seconds, 3), note)


def gate(comparison: Comparison | None, *, below: float | None) -> Gate | None:
    """Whether the saving itself, not its lower bound, reaches what is asked; None where nothing is asked."""
    if comparison is None or below is None:
        return None
    found = f"{abs(comparison.saving):.1%} {'fewer' if comparison.saving >= 0 else 'more'} bits per byte"
    range_ = ""
    if comparison.saving_low is not None and comparison.saving_high is not None:
        range_ = f" (interval {comparison.saving_low:.1%} to {comparison.saving_high:.1%})"
    sentence = f"{found} than {comparison.other}{range_}; a release needs at least {below:.1%} fewer"
    return Gate(below, comparison.saving >= below, sentence)


def _with_best(bits: Floats, found: list[Baseline], *, sizes: Floats, draws: Draws) -> Comparison | None:
    if not found:
        return None
    best = min(found, key=lambda b: float(b.bits.sum()))
    return paired(best.name, bits=bits, other_bits=best.bits, sizes=sizes, draws=draws)


def _documents(
    split: TokenSplit, documents: list[int], bits: Floats, found: list[Baseline]
) -> tuple[HeldOutDocument, ...]:
    return tuple(
        HeldOutDocument(
            split.document_id(i),
            split.document_bytes(i),
            float(bits[at]),
            {baseline.name: float(baseline.bits[at]) for baseline in found},
        )
        for at, i in enumerate(documents)
    )


def _require_known(split: TokenSplit, model: Decoder, *, where: Path) -> None:
    """What counts is which ids occur: some vocabularies name tokens that their model has no row for and no text has."""
    if split.largest >= model.spec.vocab_size:
        raise RhapsodeError(
            f"{where} has token id {split.largest:,}, the model knows {model.spec.vocab_size:,}",
            "make the tokens with the model's own tokenizer",
        )
