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
from rhapsode.evaluate.figures import changes_of, gains_of, item_scores, scores_of
from rhapsode.evaluate.forgetting import general_text
from rhapsode.evaluate.general import GeneralText
from rhapsode.evaluate.items import Item, draw
from rhapsode.evaluate.judging import concerning, judge, require_business
from rhapsode.evaluate.label_tables import confusions, label_scores, num_unknown
from rhapsode.evaluate.picks import picks, way_of
from rhapsode.evaluate.scorers.registry import known, scorer
from rhapsode.evaluate.scorers.scorer import Judged, Scorer
from rhapsode.evaluate.shots import Choice, best_prompt
from rhapsode.evaluate.side_by_side import most_changed
from rhapsode.evaluate.task_evaluation import Answered, Score, SideBySide, TaskEvaluation
from rhapsode.evaluate.task_gate import task_gate
from rhapsode.text.tool_calls import require_calls


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
    is_tuned: bool = True,
) -> TaskEvaluation:
    """Everything that `config.task` asks for.

    Args:
        before: what the model was tuned from, asked with the best prompt that training items show; None compares with
            nothing.
        after: the tuned model, asked as it was trained.
        items: held-out ones; those that are no scorer's business are not asked.
        shots_from: training items, for the prompts of `before`.
        config: the recipe's section; its `task` is there.
        events: hears progress, and "scored" for each model and scorer.
        general: texts to look for forgetting in; those that every Python has if None.
        answers_dir: where every answer is written, in after.jsonl and before.jsonl.
        is_tuned: whether `after` is; a model that was tuned on nothing like this is asked as `before` is.

    Raises:
        RhapsodeError: a prompt leaves no room for an answer, what a row wants is nothing that the scorer can judge,
            tool calls are judged and nobody here can read those of the model, or a model fails.
    """
    assert config.task is not None, "there is something to evaluate"
    names = config.task.scorers
    held = draw(concerning(names, items), most=config.task.items, seed=config.seed)
    require_business(names, held)
    if is_tuned and any(known(name).is_of_calls for name in names):
        require_calls(after.tokenizer)
    shots_from = concerning(names[:1], shots_from)
    asking = _Asking(held, [scorer(name) for name in names], config, config.task, events, answers_dir)
    before_found = None if before is None else asking.ask(before, asking.choose(before, shots_from), name="before")
    choice = as_trained(after) if is_tuned else asking.choose(after, shots_from)
    found = asking.ask(after, choice, name="after")
    then = before_found and before_found.judged
    changes = changes_of(asking.scorers, found.judged, then, held, confidence=config.confidence)
    forgotten = _forgotten(before, after, general, config=config, events=events)
    has_labels = known(names[0]).is_of_labels
    wanted = [item.wanted for item in held]
    said = (found.texts, before_found and before_found.texts)
    return TaskEvaluation(
        after=found.summary,
        before=before_found and before_found.summary,
        changes=changes,
        labels=label_scores(wanted, *said) if has_labels else (),
        confusions=confusions(wanted, *said) if has_labels else (),
        examples=_examples(held, found, before_found, count=config.task.examples, seed=config.seed),
        general=forgotten,
        items=item_scores(held, found.judged, then),
        max_tokens=config.task.max_tokens,
        temperature=config.task.temperature,
        confidence=config.confidence,
        seed=config.seed,
        gate=task_gate(changes, forgotten, config.gate),
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
        texts = [one.text for one in said]
        judged = [judge(scorer, items, texts) for scorer in self.scorers]
        scores = scores_of(
            self.scorers, judged, items, confidence=self.config.confidence, events=self.events, name=name
        )
        is_of_labels = known(self.scorers[0].name).is_of_labels
        unknown = num_unknown([item.wanted for item in items], texts) if is_of_labels else None
        return _Found(texts, judged, _summary(choice, said, scores, unknown=unknown))


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


def _forgotten(
    before: Loaded | LoadedHead | None,
    after: Loaded | LoadedHead,
    texts: Sequence[GeneralText] | None,
    *,
    config: EvaluateConfig,
    events: Events,
) -> Evaluation | None:
    if isinstance(before, LoadedHead) or isinstance(after, LoadedHead):
        return None  # it forgot how to write altogether
    return general_text(before, after, texts, config=config, events=events)


def _examples(
    items: Sequence[Item], after: _Found, before: _Found | None, *, count: int, seed: int
) -> tuple[SideBySide, ...]:
    gains = gains_of(after.judged, before and before.judged)
    return tuple(
        SideBySide(
            id=items[i].id,
            prompt=items[i].shown,
            wanted=items[i].wanted,
            before=before and before.texts[i],
            after=after.texts[i],
            gain=float(gains[i]) if np.isfinite(gains[i]) else None,
        )
        for i in most_changed([item.id for item in items], gains, count=count, seed=seed)
    )
