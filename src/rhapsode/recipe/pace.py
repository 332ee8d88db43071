"""What a plan must know of the machine: what it computes fast, and for a budget in minutes, how fast it learns.

A speed that was measured is kept, so that planning again gives the same steps and the same hash.
"""

import os
from functools import partial
from pathlib import Path

import torch

from rhapsode.catalogue.figures import figures_of
from rhapsode.core.errors import PlanRefused
from rhapsode.core.events import Events, stage
from rhapsode.core.home import read_record, write_record
from rhapsode.core.machine import Machine, examine, identity
from rhapsode.core.manifest import value_sha256
from rhapsode.corpus.new_tokens import read_new_tokens
from rhapsode.kernels import native, threads
from rhapsode.kernels.peak import measure_peak_flops
from rhapsode.recipe.first import First
from rhapsode.recipe.load import LoadedRecipe
from rhapsode.recipe.recipe import Recipe
from rhapsode.train.forecast import measure_speed
from rhapsode.train.objectives.balance import balance_of
from rhapsode.train.objectives.config import DistilConfig, GrpoConfig
from rhapsode.train.plan import Decision, Teacher, TrainPlan
from rhapsode.train.ranks.ranks import Ranks
from rhapsode.train.rollouts import longest_prompt
from rhapsode.train.settle import Here, settle
from rhapsode.train.settle_sampled import Prompts
from rhapsode.train.trainer import Data

KEPT = "speeds.json"
KEPT_THREADS = "threads.json"
GPU_TOKENS = 1 << 16
GPU_SHARE = 0.4
"""Of a GPU's memory, for what one micro-batch leaves for the way back."""
GUESS = 3e11
"""Operations a second: a first guess, good enough to choose a batch with which to measure."""
SHAPING = (
    *("spec", "context", "batch_rows", "micro_batch_rows", "optimizer", "precision", "recompute"),
    *("objective", "adapter", "storage", "teacher"),
)
"""What of a plan decides how long a step takes."""
ROUNDS = 3


def settle_here(
    loaded: LoadedRecipe, first: First, data: Data, *, ranks: Ranks, here: Here, events: Events
) -> tuple[TrainPlan, list[Decision]]:
    """`settle` on this machine; a budget in minutes is measured, as often as it leads to another batch.

    Raises:
        PlanRefused: the budget is a time and several processes train together, or the data is too small for a step.
    """
    recipe, base, teacher = loaded.recipe, loaded.base, loaded.teacher
    settled = partial(
        settle,
        recipe.train,
        first.spec,
        init_seed=recipe.model.seed if base is None else None,
        base=None if base is None else base.sha256,
        stops=first.stops,
        begin=first.begin,
        context=recipe.model.context,
        num_rows=data.training.num_rows,
        num_targets=data.training.num_targets,
        examples=data.tokens.manifest.facts.get("examples"),
        asked=_asked(recipe, data),
        balance=balance_of(data.tokens.split("train").roles),
        prompts=recipe.task.prompts,
        teacher=None if teacher is None else Teacher(teacher.sha256, teacher.spec),
        new_tokens=() if (new := read_new_tokens(data.tokens.path)) is None else new.ids,
    )
    if recipe.train.budget.unit != "seconds":
        return settled(here=here)
    if ranks.size > 1:
        raise PlanRefused(
            f"train.budget {recipe.train.budget} is a time, and {ranks.size} processes train together",
            "plan it with one process, and give these the steps that come out of it",
        )
    here = here._replace(tokens_per_second=GUESS / first.spec.flops_per_token(recipe.model.context))
    plan, decisions = settled(here=here)
    for _ in range(ROUNDS):
        rows = plan.batch_rows
        speed = _speed(loaded, plan, data, device=ranks.device, events=events)
        plan, decisions = settled(here=here._replace(tokens_per_second=speed))
        if plan.batch_rows == rows:
            break
    return plan, decisions


def _asked(recipe: Recipe, data: Data) -> Prompts | None:
    """None where nothing is sampled, or where no answers are wanted, which is refused with its reason."""
    objective = recipe.train.objective
    if not isinstance(objective, GrpoConfig) and not (isinstance(objective, DistilConfig) and objective.own):
        return None
    if data.tokens.manifest.facts.get("examples") != "answers":
        return None
    return Prompts(len(data.items("train")), longest_prompt(data.tokens.split("train"), data.training))


def here_on(ranks: Ranks, *, out: Path, events: Events) -> Here:
    """What this machine is to a plan whose files go below `out`."""
    machine = examine(out)
    if ranks.device.type == "cuda":
        memory = torch.cuda.get_device_properties(ranks.device).total_memory
        return Here(
            ranks=ranks.size,
            memory=memory,
            has_fast_bf16=torch.cuda.is_bf16_supported(including_emulation=False),
            tokens_at_once=GPU_TOKENS,
            frozen_tokens_at_once=GPU_TOKENS,
            bytes_at_once=int(GPU_SHARE * memory),
            flops=measure_peak_flops(torch.bfloat16, device=ranks.device),
        )
    if ranks.size == 1:
        _settle_threads(machine, events=events)
    figures = figures_of(machine, events=events)
    is_fast = figures.bf16_flops >= figures.fp32_flops
    return Here(
        ranks=ranks.size,
        memory=machine.memory // ranks.neighbours,
        has_fast_bf16=is_fast,
        flops=max(figures.bf16_flops, figures.fp32_flops),
    )


def _settle_threads(machine: Machine, *, events: Events) -> None:
    """Where cores have two threads each, compute with as many as are fastest, unless the user has said how many."""
    if machine.cores == machine.threads or threads.VARIABLE in os.environ:
        return
    found = read_record(KEPT_THREADS).get(identity(machine))
    if found not in (machine.cores, machine.threads):
        found = threads.fastest_threads((machine.cores, machine.threads))
        _remember(KEPT_THREADS, identity(machine), found, events=events)
    torch.set_num_threads(found)


def _speed(loaded: LoadedRecipe, plan: TrainPlan, data: Data, *, device: torch.device, events: Events) -> float:
    """Tokens a second: what is kept of steps like these on this machine, or measured and kept."""
    shape = {name: value for name, value in plan.as_json().items() if name in SHAPING}
    code = (torch.__version__, native.is_here(), torch.get_num_threads(), device.type)
    key = value_sha256([shape, identity(examine(Path())), code])
    kept = read_record(KEPT).get(key)
    if isinstance(kept, float) and kept > 0:
        return kept
    base, teacher = (found and found.directory for found in (loaded.base, loaded.teacher))
    with stage("pace", events):
        found = float(f"{measure_speed(plan, data, device=device, base=base, teacher=teacher):.3g}")
    _remember(KEPT, key, found, events=events)
    return found


def _remember(name: str, key: str, value: float, *, events: Events) -> None:
    """Keep it; a home that cannot be written costs a warning."""
    try:
        write_record(name, read_record(name) | {key: value})
    except OSError as error:
        events.emit("warning", message=f"what was measured here is not kept: {error}")
