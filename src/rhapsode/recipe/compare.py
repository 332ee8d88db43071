"""Any model on a recipe's held-out data, beside any other: measured, asked, and written to a directory of its own.

A run measures what it trained; this measures what is there: another checkpoint, a model that somebody else tuned, the
base itself. Answers are compared in pairs, on the same questions.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rhapsode import __version__
from rhapsode.core.events import Events
from rhapsode.core.manifest import digest, read_manifest, writing
from rhapsode.core.report import Block, Definitions, Heading, Report
from rhapsode.corpus.tokens import Tokens
from rhapsode.engine.heads import LoadedHead, load_head
from rhapsode.engine.load import Loaded, load_engine
from rhapsode.evaluate.config import EvaluateConfig
from rhapsode.evaluate.evaluate import evaluate
from rhapsode.evaluate.evaluate_likelihoods import evaluate_likelihoods
from rhapsode.evaluate.evaluate_task import evaluate_task
from rhapsode.evaluate.evaluation import Evaluation
from rhapsode.evaluate.items import items_of
from rhapsode.evaluate.rated import rated_of
from rhapsode.evaluate.scorers.registry import known
from rhapsode.evaluate.task_evaluation import TaskEvaluation
from rhapsode.recipe.begin import begin_of_pieces
from rhapsode.recipe.layout import Layout
from rhapsode.recipe.load import LoadedRecipe
from rhapsode.recipe.report import bits_blocks
from rhapsode.recipe.report_task import task_blocks
from rhapsode.recipe.tokens import make_corpus, make_tokens
from rhapsode.text.tokenizer import Tokenizer
from rhapsode.weights.directory import load_model, read_spec

ANSWERS = "answers"
KIND = "evaluation"


class Sides(NamedTuple):
    """The model that is measured, and the one that it is compared with.

    Attributes:
        is_own: the model is the recipe's own, so that the recipe's tokens are its own too.
    """

    model: Path
    before: Path | None
    is_own: bool


class Compared(NamedTuple):
    """What was found, and the directory where it lies; a model that does not write has no bits per byte."""

    path: Path
    evaluation: Evaluation | None
    task: TaskEvaluation | None


def compare_models(loaded: LoadedRecipe, sides: Sides, *, name: str, layout: Layout, events: Events) -> Compared:
    """Measure a model on what the recipe holds out, and where the recipe names scorers, judge its answers.

    Args:
        name: of the directory below `evaluations`; an earlier one is replaced.

    Raises:
        RhapsodeError: nothing is held out, a model cannot be asked, or it gives no finite number.
    """
    corpus, config = make_corpus(loaded, layout=layout, events=events), loaded.recipe.evaluate
    # another model reads the text with its own tokenizer, and the baselines see the same tokens as the model
    tokens = make_tokens(loaded, corpus, layout=layout, events=events, model=None if sides.is_own else sides.model)
    found = None
    if read_spec(sides.model).head is None:
        found = evaluate(
            load_model(sides.model),
            tokens,
            corpus=corpus,
            config=config,
            root=layout.baselines,
            events=events,
            context=loaded.recipe.model.context,
            begin=begin_of_pieces(Tokenizer.load(sides.model), read_manifest(sides.model).facts),
            base=loaded.base.directory if sides.is_own and loaded.base is not None else None,
            name=loaded.recipe.task.name,
        )
    inputs = {"model": digest(sides.model), "corpus": digest(corpus), "tokens": digest(tokens)}
    if sides.before is not None:
        inputs["before"] = digest(sides.before)
    path = layout.evaluations / name
    with writing(path, kind=KIND, inputs=inputs, recipe=config.model_dump(mode="json")) as work:
        task = None
        if config.task is not None:
            asked = Asked(corpus, tokens, loaded.recipe.model.context)
            task = judge(
                asked, config, before=sides.before, after=sides.model, events=events, answers_dir=work.path / ANSWERS
            )
        _write(work.path, loaded.recipe.task.purpose, sides, Compared(path, found, task), inputs)
    return Compared(path, found, task)


class Asked(NamedTuple):
    """Examples, as they are and as tokens in rows of `context`."""

    corpus: Path
    tokens: Path
    context: int


def judge(
    asked: Asked, config: EvaluateConfig, *, before: Path | None, after: Path, events: Events, answers_dir: Path
) -> TaskEvaluation:
    """Ask both models held-out questions and judge the answers, or show them answers that people judged.

    Raises:
        RhapsodeError: as `evaluate_task` or `evaluate_likelihoods`.
    """
    assert config.task is not None, "there are scorers"
    if config.task.judges != "answers":
        models = None if before is None else load_engine(before), load_engine(after)
        split = Tokens.open(asked.tokens).split("validation")
        return evaluate_likelihoods(
            *models,
            rated_of(asked.corpus, split, name="validation", context=asked.context, events=events),
            split,
            context=asked.context,
            config=config,
            events=events,
            answers_dir=answers_dir,
        )
    with_calls = any(known(name).is_of_calls for name in config.task.scorers)
    held, training = (
        items_of(asked.corpus, split=split, events=events, with_calls=with_calls) for split in ("validation", "train")
    )
    return evaluate_task(
        None if before is None else _before(before, like=after),
        load_engine(after) if read_spec(after).head is None else load_head(after),
        held,
        shots_from=training,
        config=config,
        events=events,
        answers_dir=answers_dir,
        is_tuned=read_manifest(after).facts.get("objective") not in (None, "next_token"),
    )


def _before(directory: Path, *, like: Path) -> Loaded | LoadedHead | None:
    """A model in the best way it can be asked what another one is: in words for a label, else as it is.

    It gives vectors without having learned to. A reward it cannot give, unless it has that head already.
    """
    own, head = (read_spec(model).head for model in (directory, like))
    if head is None or (own is None and len(head.labels) > 1):
        return load_engine(directory)
    if head.labels:
        return load_head(directory) if own == head else None
    return load_head(directory, head=head if own is None or own.labels else own)


def _write(folder: Path, purpose: str, sides: Sides, found: Compared, inputs: Mapping[str, str]) -> None:
    result: dict[str, Any] = {
        "model": str(sides.model),
        "before": None if sides.before is None else str(sides.before),
    }
    blocks: list[Block] = []
    if found.task is not None:
        result["task"] = found.task.as_json()
        blocks += task_blocks(found.task)
    if found.evaluation is not None:
        result["evaluation"] = found.evaluation.as_json()
        blocks += bits_blocks(found.evaluation)
    known_paths = [("model", str(sides.model)), *([("before", str(sides.before))] if sides.before else [])]
    blocks += [Heading("Provenance"), Definitions([*known_paths, *inputs.items()])]
    (folder / "report.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    footer = f"Rhapsode {__version__}. What a model writes is a draft: a person checks it."
    Report(found.path.name, blocks, subtitle=purpose, footer=footer).write(folder / "report.html")
