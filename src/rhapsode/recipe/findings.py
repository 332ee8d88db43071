"""What a finished run is worth: measured, asked, and written down as report.json, report.html and in the model card."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from rhapsode.core.events import read_events, stage
from rhapsode.engine.completion import complete
from rhapsode.engine.heads import LoadedHead, load_head
from rhapsode.engine.load import Loaded, load_engine
from rhapsode.engine.sampling import Sampling
from rhapsode.evaluate.evaluate import evaluate
from rhapsode.evaluate.evaluate_task import evaluate_task
from rhapsode.evaluate.evaluation import Evaluation
from rhapsode.evaluate.items import items_of
from rhapsode.evaluate.probes import probes
from rhapsode.evaluate.questions import questions
from rhapsode.evaluate.task_evaluation import TaskEvaluation
from rhapsode.recipe.plan import Plan
from rhapsode.recipe.report import Spoken, write_report
from rhapsode.recipe.report_task import HEADING, task_section
from rhapsode.recipe.run import Walk
from rhapsode.text.chat import Message, render
from rhapsode.text.tokenizer import Tokenizer
from rhapsode.weights.card import CARD, write_card
from rhapsode.weights.directory import load_model

ANSWERS = "answers"


class Findings(NamedTuple):
    """Bits per byte and words of its own, if it writes; and what its answers are worth, if the recipe names scorers."""

    evaluation: Evaluation | None
    spoken: list[Spoken]
    task: TaskEvaluation | None


def evaluate_run(walk: Walk, plan: Plan, model: Path) -> Findings:
    """Measure the model, let it speak, judge its answers, and write report.json and report.html."""
    found, spoken = (None, []) if plan.train.spec.head is not None else _written(walk, plan, model)
    task = None
    if plan.recipe.evaluate.task is not None:
        with stage("answers", walk.events):
            task = judge(walk, plan, model)
    findings = Findings(found, spoken, task)
    _write(walk.run_dir, plan, model, findings)
    return findings


def _written(walk: Walk, plan: Plan, model: Path) -> tuple[Evaluation, list[Spoken]]:
    with stage("evaluate", walk.events):
        found = evaluate(
            load_model(model),
            plan.data.tokens.path,
            corpus=plan.corpus,
            config=plan.recipe.evaluate,
            root=walk.layout.baselines,
            events=walk.events,
            context=plan.train.context,
            begin=plan.train.begin,
            base=plan.base_directory,
            name=plan.name,
        )
        return found, speak(plan, model)


def judge(walk: Walk, plan: Plan, model: Path) -> TaskEvaluation:
    """Ask held-out questions before and after, and judge the answers."""
    config, base = plan.recipe.evaluate, plan.base_directory
    held, training = (items_of(plan.corpus, split=split, events=walk.events) for split in ("validation", "train"))
    before = _before(plan) if base is not None and "base" in config.baselines else None
    return evaluate_task(
        before,
        load_engine(model) if plan.train.spec.head is None else load_head(model),
        held,
        shots_from=training,
        config=config,
        events=walk.events,
        answers_dir=walk.run_dir / ANSWERS,
    )


def _before(plan: Plan) -> Loaded | LoadedHead | None:
    """The model that training started from, in the best way it can be asked: in words for a label, else as it is.

    It gives vectors without having learned to. A reward it cannot give, unless it has that head already.
    """
    assert plan.base is not None, "there is a model before"
    base, head = plan.base, plan.train.spec.head
    if head is None or (len(head.labels) > 1 and base.spec.head is None):
        return load_engine(base.directory)
    if head == base.spec.head or not head.labels:
        return load_head(base.directory, spec=plan.train.spec)
    return None


def _write(run_dir: Path, plan: Plan, model: Path, findings: Findings) -> None:
    events = read_events(run_dir / "events.jsonl")
    found, spoken, task = findings
    if task is not None:
        card = (model / CARD).read_text(encoding="utf-8").partition(HEADING)[0].rstrip()
        write_card(model, f"{card}\n\n{task_section(task)}")
    write_report(run_dir, plan=plan, model=model, evaluation=found, spoken=spoken, task=task, events=events)
    result: dict[str, Any] = {"plan": plan.hash, "model": model.name}
    if found is not None:
        result["evaluation"] = found.as_json()
    if task is not None:
        result["task"] = task.as_json()
    result["samples"] = [asdict(sample) for sample in spoken]
    path = run_dir / "report.json"
    path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def speak(plan: Plan, model: Path) -> list[Spoken]:
    """The model's completions of held-out prompts and of the recipe's own."""
    engine, tokenizer = load_engine(model)
    config = plan.recipe.evaluate.samples
    context, seed = min(engine.context, plan.train.context), plan.recipe.evaluate.seed
    if plan.recipe.data.examples:
        split = plan.data.tokens.split("validation")
        found = questions(split, tokenizer, count=config.count, seed=seed)
        asked = [(q.ids[-context + 1 :], q.prompt, q.wanted, q.source, "") for q in found]
    else:
        held_out = probes(plan.corpus, config, tokenizer=tokenizer, context=context, seed=seed)
        asked = [(tokenizer.ids(p.prompt), p.prompt, p.followed, p.source, p.name) for p in held_out]
    asked += [(_ids(prompt, plan, tokenizer), prompt, "", "", "") for prompt in plan.recipe.task.prompts]
    sampling = Sampling(max_tokens=config.max_tokens, temperature=config.temperature, seed=seed)
    return [
        Spoken(
            prompt=prompt,
            completion="".join(p.text for p in complete(engine, tokenizer, ids, sampling=sampling)),
            followed=followed,
            source=source,
            name=name,
        )
        for ids, prompt, followed, source, name in asked
    ]


def _ids(prompt: str, plan: Plan, tokenizer: Tokenizer) -> list[int]:
    """A prompt of the recipe: to be answered where the model learns to chat, else to be gone on with."""
    if not plan.data.tokens.manifest.facts.get("chat"):
        return tokenizer.ids(prompt)
    asked = Message(role="user", content=prompt)
    return render([asked], tokenizer=tokenizer, add_generation_prompt=True).ids
