"""Ask a model held-out questions, judge its answers, and compare them with those of the model it was tuned from."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rhapsode.core.events import Events
from rhapsode.engine.heads import LoadedHead
from rhapsode.engine.load import Loaded
from rhapsode.engine.sampling import Sampling
from rhapsode.evaluate.answers import Answer, AsTrained, answer, write_answers
from rhapsode.evaluate.config import EvaluateConfig, TaskEvaluationConfig
from rhapsode.evaluate.evaluation import Evaluation
from rhapsode.evaluate.forgetting import Reader, forgetting
from rhapsode.evaluate.general import GeneralText, general_texts
from rhapsode.evaluate.held_out import rank
from rhapsode.evaluate.interval import Draws
from rhapsode.evaluate.items import Item, draw
from rhapsode.evaluate.jackknife import group_sums, spread
from rhapsode.evaluate.label_tables import confusions, label_scores, num_unknown
from rhapsode.evaluate.paired import Change, change
from rhapsode.evaluate.picks import picks, way_of
from rhapsode.evaluate.scorers.registry import known, scorer
from rhapsode.evaluate.scorers.scorer import Judged, Scorer
from rhapsode.evaluate.shots import Choice, best_prompt
from rhapsode.evaluate.task_evaluation import Answered, ItemScores, Score, SideBySide, TaskEvaluation


def evaluate_task(
    before: Loaded | LoadedHead | None,
    after: Loaded | LoadedHead,
    items: Sequence[Item],
    *,
    shots_from: Sequence[Item],
    config: EvaluateConfig,
    events: Events,
    general: Sequence[GeneralText] | None = None,
    answers_dir: Path | None = None,
) -> TaskEvaluation:
    """Everything that `config.task` asks for.

    Args:
        before: what the model was tuned from, asked with the best prompt that training items show; None compares with
            nothing.
        after: the tuned model, asked as it was trained.
        items: held-out ones.
        shots_from: training items, for the prompts of `before`.
        config: the recipe's section; its `task` is there.
        events: hears progress, and "scored" for each model and scorer.
        general: texts to look for forgetting in; those that every Python has if None.
        answers_dir: where every answer is written, in after.jsonl and before.jsonl.

    Raises:
        RhapsodeError: a prompt leaves no room for an answer, what a row wants is nothing that the scorer can judge, or
            a model fails.
    """
    assert config.task is not None, "there is something to evaluate"
    held = draw(items, most=config.task.items, seed=config.seed)
    asking = _Asking(held, [scorer(name) for name in config.task.scorers], config, config.task, events, answers_dir)
    before_found = None if before is None else asking.ask(before, asking.choose(before, shots_from), name="before")
    found = asking.ask(after, as_trained(after), name="after")
    has_labels = known(config.task.scorers[0]).is_of_labels
    wanted = [item.wanted for item in held]
    said = (found.texts, before_found and before_found.texts)
    return TaskEvaluation(
        after=found.summary,
        before=before_found and before_found.summary,
        changes=() if before_found is None else asking.changes(found, before_found),
        labels=label_scores(wanted, *said) if has_labels else (),
        confusions=confusions(wanted, *said) if has_labels else (),
        examples=_examples(held, found, before_found, count=config.task.examples, seed=config.seed),
        general=_general(before, after, general, config, events),
        items=_items(held, found, before_found),
        max_tokens=config.task.max_tokens,
        temperature=config.task.temperature,
        confidence=config.confidence,
        seed=config.seed,
    )


class _Found(NamedTuple):
    """One model's answers, what each scorer says of them, and both in short."""

    texts: list[str]
    judged: list[Judged]
    summary: Answered


class _Asking(NamedTuple):
    """The questions, and how answers are judged."""

    items: list[Item]
    scorers: list[Scorer]
    config: EvaluateConfig
    task: TaskEvaluationConfig
    events: Events
    answers_dir: Path | None

    @property
    def groups(self) -> list[str]:
        return [item.group for item in self.items]

    @property
    def sampling(self) -> Sampling:
        return Sampling(max_tokens=self.task.max_tokens, temperature=self.task.temperature, seed=self.config.seed)

    def choose(self, model: Loaded | LoadedHead, shots_from: Sequence[Item]) -> Choice:
        if isinstance(model, LoadedHead):
            return as_trained(model)
        return best_prompt(
            model.engine,
            model.tokenizer,
            shots_from,
            scorer=self.scorers[0],
            config=self.task,
            sampling=self.sampling,
            seed=self.config.seed,
            events=self.events,
        )

    def say(self, model: Loaded | LoadedHead, choice: Choice, *, stage: str) -> list[Answer]:
        """What it writes, or picks."""
        if isinstance(model, LoadedHead):
            return picks(model, self.items, events=self.events, stage=stage)
        sampling, prompts = self.sampling, choice.prompts
        return answer(*model, self.items, prompts=prompts, sampling=sampling, events=self.events, stage=stage)

    def ask(self, model: Loaded | LoadedHead, choice: Choice, *, name: str) -> _Found:
        items = self.items
        said = self.say(model, choice, stage=f"answers {name}")
        if self.answers_dir is not None:
            write_answers(self.answers_dir / f"{name}.jsonl", items, said)
        texts, wanted = [one.text for one in said], [item.wanted for item in items]
        judged = [scorer.judge(texts, wanted) for scorer in self.scorers]
        scores = tuple(self._score(*pair, name=name) for pair in zip(self.scorers, judged, strict=True))
        is_of_labels = known(self.scorers[0].name).is_of_labels
        unknown = num_unknown(wanted, texts) if is_of_labels else None
        return _Found(texts, judged, _summary(choice, said, scores, unknown=unknown))

    def changes(self, after: _Found, before: _Found) -> tuple[Change, ...]:
        pairs = zip(self.scorers, after.judged, before.judged, strict=True)
        return tuple(change(*pair, self.groups, confidence=self.config.confidence) for pair in pairs)

    def _score(self, scorer: Scorer, judged: Judged, *, name: str) -> Score:
        sums = group_sums(judged.counts, self.groups)
        found = Score(scorer.name, *spread(sums, scorer.figure, confidence=self.config.confidence))
        self.events.emit("scored", name=name, scorer=found.scorer, value=found.value, low=found.low, high=found.high)
        return found


def as_trained(model: Loaded | LoadedHead) -> Choice:
    """Asked as it was trained; what does not write is called by its own way."""
    way = AsTrained(model.tokenizer)
    if isinstance(model, LoadedHead):
        way.name = way_of(model)
    return Choice(way, (), 0)


def _summary(choice: Choice, said: Sequence[Answer], scores: tuple[Score, ...], *, unknown: int | None) -> Answered:
    return Answered(
        prompt=choice.prompts.name,
        shots=float(np.mean([one.shots for one in said])),
        tried=choice.tried,
        tried_items=choice.items,
        scores=scores,
        tokens=float(np.mean([one.tokens for one in said])),
        cut=sum(one.ended == "cut" for one in said),
        empty=sum(not one.text.strip() for one in said),
        unknown=unknown,
    )


def _general(
    before: Loaded | LoadedHead | None,
    after: Loaded | LoadedHead,
    texts: Sequence[GeneralText] | None,
    config: EvaluateConfig,
    events: Events,
) -> Evaluation | None:
    assert config.task is not None
    if isinstance(before, LoadedHead) or isinstance(after, LoadedHead):
        return None  # it forgot how to write altogether
    if before is None or (texts is None and config.task.general.documents == 0):
        return None
    if texts is None:
        texts = general_texts(config.task.general, seed=config.seed)
    then, now = (Reader(model.engine.model, model.tokenizer) for model in (before, after))
    return forgetting(then, now, texts, draws=Draws(config.confidence, config.resamples, config.seed), events=events)


def _examples(
    items: Sequence[Item], after: _Found, before: _Found | None, *, count: int, seed: int
) -> tuple[SideBySide, ...]:
    """The largest gains, then the largest losses; where both are too few, others. A hash decides between equals."""
    gains = np.zeros(len(items)) if before is None else after.judged[0].scores - before.judged[0].scores
    order = sorted(range(len(items)), key=lambda i: rank(items[i].id, seed=seed))
    rising, falling = (sorted(order, key=lambda i: sign * gains[i]) for sign in (-1, 1))
    half = (count + 1) // 2
    best = [i for i in rising if gains[i] > 0]
    worst = [i for i in falling if gains[i] < 0]
    best, worst = best[: max(half, count - len(worst))], worst[: max(count - half, count - len(best))]
    chosen = [*best, *worst]
    chosen += [i for i in order if gains[i] == 0][: count - len(chosen)]
    return tuple(
        SideBySide(
            id=items[i].id,
            prompt=items[i].shown,
            wanted=items[i].wanted,
            before=before and before.texts[i],
            after=after.texts[i],
            gain=None if before is None else float(gains[i]),
        )
        for i in chosen
    )


def _items(items: Sequence[Item], after: _Found, before: _Found | None) -> tuple[ItemScores, ...]:
    own = _by_item(after)
    others = [None] * len(items) if before is None else _by_item(before)
    return tuple(
        ItemScores(item.id, item.group, other, one) for item, one, other in zip(items, own, others, strict=True)
    )


def _by_item(found: _Found) -> list[tuple[float | None, ...]]:
    rows = np.stack([judged.scores for judged in found.judged], axis=1)
    return [tuple(float(value) if np.isfinite(value) else None for value in row) for row in rows]
