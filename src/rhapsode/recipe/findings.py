"""What a finished run is worth: measured, asked, and written down as report.json, report.html and in the model card."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from rhapsode.core.events import read_events, stage
from rhapsode.engine.completion import complete
from rhapsode.engine.load import load_engine
from rhapsode.engine.sampling import Sampling
from rhapsode.evaluate.evaluate import evaluate
from rhapsode.evaluate.evaluation import Evaluation
from rhapsode.evaluate.probes import probes
from rhapsode.evaluate.questions import questions
from rhapsode.evaluate.task_evaluation import TaskEvaluation
from rhapsode.recipe.compare import ANSWERS, Asked, judge
from rhapsode.recipe.plan import Plan
from rhapsode.recipe.report import Spoken, write_report
from rhapsode.recipe.report_task import HEADING, task_section
from rhapsode.recipe.run import Walk
from rhapsode.text.chat import question_ids
from rhapsode.weights.card import CARD, write_card
from rhapsode.weights.directory import load_model


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
            base = plan.before and plan.before.base.directory
            task = judge(
                Asked(plan.corpus, plan.data.tokens.path, plan.train.context),
                plan.recipe.evaluate,
                before=base if "base" in plan.recipe.evaluate.baselines else None,
                after=model,
                events=walk.events,
                answers_dir=walk.run_dir / ANSWERS,
            )
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
            base=plan.before and plan.before.base.directory,
            base_tokens=plan.before and plan.before.tokens.path,
            name=plan.name,
        )
        return found, speak(plan, model)


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
    is_chat = bool(plan.data.tokens.manifest.facts.get("chat"))
    own = [(question_ids(text, tokenizer=tokenizer, is_chat=is_chat), text) for text in plan.recipe.task.prompts]
    asked += [(ids, text, "", "", "") for ids, text in own]
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
