"""The road to a model: plan, train, merge. Each stage reads directories and writes one; `findings` judges it.

A run lives in `runs/NAME`: one process at a time, every event in events.jsonl, checkpoints in step-NNNNNN.
Nothing here prints: the command line listens to the events.
"""

import contextlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from rhapsode.conformance.vectors import add_conformance
from rhapsode.core.errors import GateNotPassed, Interrupted, PlanRefused, RhapsodeError
from rhapsode.core.events import Events, JsonLines, Listener, stage
from rhapsode.core.lock import locked
from rhapsode.core.machine import examine
from rhapsode.core.manifest import digest, value_sha256, verify
from rhapsode.core.units import format_bytes
from rhapsode.evaluate.evaluation import Evaluation
from rhapsode.evaluate.task_evaluation import TaskEvaluation
from rhapsode.recipe.begin import DOCUMENTS, FACT
from rhapsode.recipe.card import card_text
from rhapsode.recipe.layout import Layout
from rhapsode.recipe.load import LoadedRecipe
from rhapsode.recipe.pace import here_on
from rhapsode.recipe.plan import Plan, copy_plan, make_plan, read_plan, write_plan
from rhapsode.recipe.plan_page import plan_page
from rhapsode.recipe.settled import changes, meaning
from rhapsode.recipe.teacher import papers_of
from rhapsode.train.checkpoints import Evidence
from rhapsode.train.forecast import Forecast, forecast, memory_floor
from rhapsode.train.loop import Run
from rhapsode.train.ranks.ranks import ALONE, Ranks
from rhapsode.train.settle import Here
from rhapsode.train.signals import stop_wishes
from rhapsode.train.trackers import trackers
from rhapsode.train.trainer import Trainer
from rhapsode.weights.checkpoint import TrainingState, read_state
from rhapsode.weights.extend import ROWS
from rhapsode.weights.merge.adapter import LostInRounding, merge_adapter
from rhapsode.weights.names import MERGED, checkpoints

SHOWN_CHANGES = 20


@dataclass(frozen=True)
class Walk:
    """A run under way: where it lives, who listens, and who trains."""

    layout: Layout
    run_dir: Path
    events: Events
    ranks: Ranks = ALONE


@contextlib.contextmanager
def walking(
    loaded: LoadedRecipe, *, layout: Layout, events: Events, resume: bool, ranks: Ranks = ALONE
) -> Iterator[Walk]:
    """Hold the run's directory and write its events down; of several ranks, the first one does.

    Raises:
        RhapsodeError: another process works there, or it holds a model already and `resume` is not asked for.
    """
    run_dir = layout.runs / loaded.recipe.task.name
    if ranks.rank > 0:
        yield Walk(layout, run_dir, events, ranks)
        return
    ranks.listen(events)
    with locked(run_dir):
        if not resume:
            _require_unused(run_dir)
        with JsonLines(run_dir / "events.jsonl") as journal, trackers(run_dir, events=events) as others:
            listeners: Sequence[Listener] = (journal, *others)
            for listener in listeners:
                events.subscribe(listener)
            try:
                with _last_word(events):
                    yield Walk(layout, run_dir, events, ranks)
            finally:
                for listener in listeners:
                    events.unsubscribe(listener)


@contextlib.contextmanager
def _last_word(events: Events) -> Iterator[None]:
    """An "end" event says how it ended: whoever watches from elsewhere sees neither our exit code nor our errors."""
    try:
        yield
    except BaseException as error:
        is_stopped = isinstance(error, Interrupted | KeyboardInterrupt)
        with contextlib.suppress(OSError):  # a disk that is full has no room for last words
            events.emit("end", state="stopped" if is_stopped else "failed", message=str(error))
        raise
    events.emit("end", state="done", message="")


def _require_unused(run_dir: Path) -> None:
    if found := checkpoints(run_dir):
        raise RhapsodeError(
            f"{run_dir} holds {found[-1].name} of an earlier run",
            "go on with --resume, choose another task.name, or remove the directory",
        )
    blamed = run_dir.glob("bad-batch-step-*.json")
    for left in (*(run_dir / name for name in ("events.jsonl", "report.json", "report.html", "mlflow.json")), *blamed):
        left.unlink(missing_ok=True)
    shutil.rmtree(run_dir / "tensorboard", ignore_errors=True)


def plan_run(
    loaded: LoadedRecipe, *, layout: Layout, events: Events, must_match: bool = False, ranks: Ranks = ALONE
) -> tuple[Plan, Forecast]:
    """Settle the run and forecast its cost; the plan is kept as the one that `train` must match.

    Args:
        must_match: refuse to be anything but the plan that was kept before, if there is one.
        ranks: who will train; the first one prepares and keeps, the others find it so.

    Raises:
        PlanRefused: it is not what was planned (the message lists what changed), or the machine cannot carry it.
    """
    # on machines that are not alike, what rank 0 finds holds for all
    here = Here(**ranks.share(here_on(ranks, out=layout.out, events=events)._asdict()))
    plan = ranks.after_first(lambda: make_plan(loaded, layout=layout, events=events, ranks=ranks, here=here))
    _require_one_plan(plan, ranks)
    known = read_plan(plan.name, layout=layout) if ranks.rank == 0 else None
    if known is not None and known["hash"] != plan.hash:
        is_other = value_sha256(meaning(known["settled"])) != plan.meaning
        _tell_changes(plan, known, events=events, refuse=must_match and is_other)
    found = _forecast(plan, known, layout=layout, events=events, ranks=ranks)
    if ranks.rank > 0:
        return plan, found
    shown = {
        "forecast": found.as_json(),
        "decisions": [decision._asdict() for decision in plan.decisions],
        "samples": [sample._asdict() for sample in plan.samples],
    }
    path = write_plan(plan, layout=layout, shown=shown, page=plan_page(plan, found))
    events.emit(
        "planned",
        hash=plan.hash,
        page=str(path / "plan.html"),
        forecast=found.as_json(),
        parameters=plan.train.spec.parameters,
        decisions=shown["decisions"],
    )
    return plan, found


def _require_one_plan(plan: Plan, ranks: Ranks) -> None:
    """Raises PlanRefused: this rank reads other data than the first, or computes in another way."""
    first = ranks.share(plan.settled)
    if lines := changes(first, plan.settled):
        raise PlanRefused(
            f"rank {ranks.rank} would not train what rank 0 does:\n{_listed(lines)}",
            "all ranks need the same data, code and kind of machine",
        )


def _tell_changes(plan: Plan, known: Mapping[str, Any], *, events: Events, refuse: bool) -> None:
    listed = _listed(changes(known["settled"], plan.settled))
    hashes = f"{known['hash'][:12]} then, {plan.hash[:12]} now"
    if refuse:
        raise PlanRefused(
            f"this is not what was planned ({hashes}):\n{listed}",
            "look at it with `rhapsode plan`, which makes it the plan, or put it back",
        )
    events.emit("changed", hashes=hashes, listed=listed)


def _listed(lines: Sequence[str]) -> str:
    more = [f"and {len(lines) - SHOWN_CHANGES} more"] if len(lines) > SHOWN_CHANGES else []
    return "\n".join(f"  {line}" for line in [*lines[:SHOWN_CHANGES], *more])


def _forecast(plan: Plan, known: Mapping[str, Any] | None, *, layout: Layout, events: Events, ranks: Ranks) -> Forecast:
    """Some real steps, unless this very plan was forecast before; refused when the machine cannot carry the run.

    Raises:
        PlanRefused: too little memory or disk, with the numbers.
    """
    machine = examine(layout.out)
    together = ranks.size if plan.train.parallel == "shard" else plan.train.tensor
    if (need := memory_floor(plan.train) * ranks.neighbours // together) > machine.memory_available:
        raise PlanRefused(
            f"training needs at least {format_bytes(need)} of memory, {format_bytes(machine.memory_available)} is free",
            "make model.size smaller" if plan.base is None else "choose a smaller model.base",
        )
    before = ranks.share(known["forecast"] if known is not None and known["hash"] == plan.hash else None)
    if before is not None:
        found = Forecast(**before)
    else:
        with stage("forecast", events):
            found = forecast(
                plan.train,
                plan.data,
                device=plan.device,
                base=plan.base_directory,
                teacher=plan.teacher_directory,
                ranks=ranks,
            )
            found = Forecast(**ranks.share(found.as_json()))
    if found.disk_bytes > machine.disk_free:
        raise PlanRefused(
            f"checkpoints need {format_bytes(found.disk_bytes)} of disk, {format_bytes(machine.disk_free)} is free",
            "free some space, write elsewhere with --out, or make train.keep smaller",
        )
    return found


def train_run(walk: Walk, plan: Plan, cost: Forecast, *, resume: bool) -> Path:
    """Train exactly `plan`; gives the last checkpoint.

    Raises:
        PlanRefused: the run to go on with learned something else; the message lists the differences.
        VerificationMismatch: tokens are not those that were planned.
    """
    if walk.ranks.rank == 0:
        verify(plan.data.tokens.path)  # a mask with a flipped bit trains as smoothly as the right one
        if resume:
            _require_same_meaning(plan, walk.run_dir)
        copy_plan(plan, layout=walk.layout, to=walk.run_dir)
    with stage("train", walk.events), stop_wishes() as wish:
        trainer = Trainer(
            plan.train,
            plan.data,
            device=plan.device,
            base=plan.base_directory,
            teacher=plan.teacher_directory,
            plan_hash=plan.meaning,
            machine=plan.machine,
            ranks=walk.ranks,
        )
        run = Run(
            trainer,
            plan.data,
            run_dir=walk.run_dir,
            evidence=_evidence(plan),
            events=walk.events,
            wish=wish,
            peak_flops=cost.peak_flops,
        )
        model = run(resume=resume)
    return model if plan.train.adapter is None else merge_run(walk, plan, model)


def merge_run(walk: Walk, plan: Plan, adapter: Path) -> Path:
    """The adapter of the last step in the weights of its base: the model that is evaluated, served and exported."""
    out = walk.run_dir / MERGED
    if walk.ranks.rank > 0:
        return out
    assert plan.base is not None, "an adapter stands upon a base"
    evidence, state = _evidence(plan), read_state(adapter)
    card = evidence.card(state)

    def prove(directory: Path) -> None:
        (directory / "README.md").write_text(card, encoding="utf-8")
        for name, paper in evidence.papers.items():
            shutil.copyfile(paper, directory / name)
        add_conformance(directory)

    known = {"step": state.step, "plan": state.plan, "objective": plan.train.objective["name"], **evidence.facts}
    with stage("merge", walk.events):
        merge = partial(
            merge_adapter,
            plan.base.directory,
            adapter,
            out,
            storage=plan.train.storage,
            spec=plan.train.spec,
            tokenizer_dir=plan.data.tokens.tokenizer_dir,
            facts=known,
            prove=prove,
        )
        try:
            found = merge(dtype=torch.bfloat16)
        except LostInRounding as error:
            walk.events.emit("warning", message=f"{error.message}; so the merged model keeps float32")
            found = merge(dtype=torch.float32)
    walk.events.emit("merged", path=str(out), difference=found.difference, change=found.change)
    return out


def _require_same_meaning(plan: Plan, run_dir: Path) -> None:
    """On another machine a run may go on, with other data or another model it may not."""
    kept = run_dir / "plan.json"
    if not checkpoints(run_dir) or not kept.exists():
        return
    before, now = meaning(json.loads(kept.read_text(encoding="utf-8"))["settled"]), meaning(plan.settled)
    if lines := changes(before, now):
        raise PlanRefused(
            f"{run_dir} is a run of another plan:\n{_listed(lines)}",
            "put the recipe and the data back, or give this run another task.name",
        )


def _evidence(plan: Plan) -> Evidence:
    inputs = {"corpus": digest(plan.corpus), "tokens": digest(plan.data.tokens.path), "plan": plan.hash}
    papers = papers_of(plan.base, plan.teacher)

    def card(state: TrainingState) -> str:
        return card_text(plan, state)

    recipe, known = plan.recipe.as_json(), {"licence": plan.licence}
    if plan.recipe.data.examples:
        known |= {"chat": plan.data.tokens.manifest.facts["chat"]}
    if plan.teacher is not None:
        inputs, known = inputs | {"teacher": plan.teacher.sha256}, known | {"teacher": plan.teacher.title}
    if (base := plan.base) is None:
        return Evidence(inputs, recipe, card, known | ({FACT: DOCUMENTS} if plan.train.begin is None else {}), papers)
    facts = {**known, "base": base.title, **{key: base.facts[key] for key in (FACT, ROWS) if key in base.facts}}
    return Evidence({**inputs, "base": base.sha256}, recipe, card, facts, papers, str(base.directory.absolute()))


def check_gate(evaluation: Evaluation | None, task: TaskEvaluation | None = None) -> None:
    """Raises GateNotPassed if the recipe asks for more than the model reached, in bits per byte or in answers."""
    gates = [None if found is None else found.gate for found in (evaluation, task)]
    if missed := [gate.sentence for gate in gates if gate is not None and not gate.passed]:
        raise GateNotPassed(
            f"the gate is not passed: {'; '.join(missed)}",
            "train longer or more gently, add data, or ask for less in evaluate.gate",
        )
