"""Show a model answers that people judged, and compare how it tells them apart with the model it was tuned from."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rhapsode.core.events import Events
from rhapsode.corpus.tokens import TokenSplit
from rhapsode.engine.load import Loaded
from rhapsode.evaluate.answers import write_lines
from rhapsode.evaluate.config import EvaluateConfig
from rhapsode.evaluate.figures import changes_of, gains_of, item_scores, scores_of
from rhapsode.evaluate.forgetting import general_text
from rhapsode.evaluate.general import GeneralText
from rhapsode.evaluate.items import draw
from rhapsode.evaluate.likelihoods import likelihoods
from rhapsode.evaluate.rated import BAD, GOOD, Rated
from rhapsode.evaluate.scorers.likelihoods import Likelihoods, LikelihoodScorer
from rhapsode.evaluate.scorers.registry import likelihood_scorer
from rhapsode.evaluate.scorers.scorer import Judged
from rhapsode.evaluate.side_by_side import most_changed
from rhapsode.evaluate.task_evaluation import Answered, Likelihood, SideBySide, TaskEvaluation
from rhapsode.evaluate.task_gate import task_gate

AS_TRAINED = "with the tokens that were trained on"


def evaluate_likelihoods(
    before: Loaded | None,
    after: Loaded,
    items: Sequence[Rated],
    split: TokenSplit,
    *,
    context: int,
    config: EvaluateConfig,
    events: Events,
    general: Sequence[GeneralText] | None = None,
    answers_dir: Path | None = None,
) -> TaskEvaluation:
    """Everything that `config.task` asks for; both models read the same tokens.

    Args:
        before: what the model was tuned from; None compares with nothing, which a scorer of rewards cannot.
        items: held-out ones, whose sequences are in `split`.
        context: tokens of a row, into which every item fits.
        events: hears progress, and "scored" for each model and scorer.
        general: texts to look for forgetting in; those that every Python has if None.
        answers_dir: where what was found of every answer is written, in after.jsonl and before.jsonl.

    Raises:
        RhapsodeError: a model cannot read the tokens or gives no finite number, or all answers are of one kind.
    """
    assert config.task is not None, "there is something to evaluate"
    held = draw(items, most=config.task.items, seed=config.seed)
    sequences = [index for item in held for index in item.sequences]
    read = [
        None if model is None else likelihoods(
            model.engine.model, split, sequences, context=context, pad=model.tokenizer.pad, events=events,
            stage=f"likelihoods {name}",
        )
        for name, model in (("before", before), ("after", after))
    ]  # fmt: skip
    start, end = read
    assert end is not None
    judging = _Judging(held, [likelihood_scorer(name) for name in config.task.scorers], config, events)
    then = None if start is None else judging.judge(start, since=start, name="before")
    now = judging.judge(end, since=start, name="after")
    if answers_dir is not None:
        for name, found in (("before", start), ("after", end)):
            if found is not None:
                _write(answers_dir / f"{name}.jsonl", held, found)
    earlier = then and then.judged
    changes = changes_of(judging.scorers, now.judged, earlier, held, confidence=config.confidence)
    forgotten = general_text(before, after, general, config=config, events=events)
    return TaskEvaluation(
        after=now.summary,
        before=then and then.summary,
        changes=changes,
        labels=(),
        confusions=(),
        examples=_examples(held, now, then, count=config.task.examples, seed=config.seed),
        general=forgotten,
        items=item_scores(held, now.judged, earlier),
        max_tokens=config.task.max_tokens,
        temperature=config.task.temperature,
        confidence=config.confidence,
        seed=config.seed,
        likelihoods=_by_kind(held, split, end, start),
        gate=task_gate(changes, forgotten, config.gate),
    )


class _Found(NamedTuple):
    """One model's likelihoods, what each scorer says of them, and that in short."""

    likelihoods: Likelihoods
    judged: list[Judged]
    summary: Answered


class _Judging(NamedTuple):
    """The items, and how they are judged."""

    items: Sequence[Rated]
    scorers: Sequence[LikelihoodScorer]
    config: EvaluateConfig
    events: Events

    def judge(self, found: Likelihoods, *, since: Likelihoods | None, name: str) -> _Found:
        own = found._replace(before=None if since is None else since.log_probs)
        are_good = [is_good for item in self.items for is_good in item.are_good]
        judged = [scorer.judge(own, are_good) for scorer in self.scorers]
        scores = scores_of(
            self.scorers, judged, self.items, confidence=self.config.confidence, events=self.events, name=name
        )
        tokens = float(found.tokens.mean())
        return _Found(own, judged, Answered(AS_TRAINED, 0, (), 0, scores, tokens, cut=0, empty=0, unknown=None))


def _by_kind(
    items: Sequence[Rated], split: TokenSplit, after: Likelihoods, before: Likelihoods | None
) -> tuple[Likelihood, ...]:
    """Wanted answers first."""
    roles = np.array([split.role(index) for item in items for index in item.sequences])
    found = []
    for kind in (*GOOD, *BAD):
        if (own := roles == kind).any():
            tokens = after.tokens[own].sum()
            start = None if before is None else float(before.log_probs[own].sum() / tokens)
            found.append(Likelihood(kind, int(own.sum()), start, float(after.log_probs[own].sum() / tokens)))
    return tuple(found)


def _examples(
    items: Sequence[Rated], after: _Found, before: _Found | None, *, count: int, seed: int
) -> tuple[SideBySide, ...]:
    gains = gains_of(after.judged, before and before.judged)
    first = np.cumsum([0, *(len(item.sequences) for item in items)])
    shown = []
    for i in most_changed([item.id for item in items], gains, count=count, seed=seed):
        item, own = items[i], slice(int(first[i]), int(first[i + 1]))
        by_kind = dict(zip(item.are_good, item.answers, strict=True))
        shown.append(
            SideBySide(
                id=item.id,
                prompt=item.prompt,
                wanted=by_kind.get(True, ""),
                before=before and _said(before.likelihoods, own),
                after=_said(after.likelihoods, own),
                gain=float(gains[i]) if np.isfinite(gains[i]) else None,
                unwanted=by_kind.get(False, ""),
            )
        )
    return tuple(shown)


def _said(found: Likelihoods, own: slice) -> str:
    """An item's likelihoods in words: "ln p -31.2, of the other -28.9"."""
    return "ln p " + ", of the other ".join(f"{value:.1f}" for value in found.log_probs[own])


def _write(path: Path, items: Sequence[Rated], found: Likelihoods) -> None:
    """A line of JSON for each answer: its prompt, whether it was wanted, and how likely it is.

    Raises:
        RhapsodeError: the place cannot be written.
    """
    answers = [(item, *answer) for item in items for answer in zip(item.answers, item.are_good, strict=True)]
    lines = [
        json.dumps(
            {
                "id": item.id,
                "group": item.group,
                "prompt": item.prompt,
                "answer": answer,
                "wanted": is_good,
                "log_prob": float(log_prob),
                "tokens": int(tokens),
            },
            ensure_ascii=False,
        )
        for (item, answer, is_good), log_prob, tokens in zip(answers, found.log_probs, found.tokens, strict=True)
    ]
    write_lines(path, lines)
