"""Everything that would happen, settled before it is spent.

A plan reads the data, derives the model and the training from the recipe, and shows what training will see. Its hash
is over what was settled, not over the recipe's text: the bytes of the corpus and the tokens, the packing, every number
of the training and the evaluation, the code and the machine's way of computing. Training runs exactly one hash.

What the machine alone decides (`MACHINE`) changes the rounding of sums and nothing that is learned. The rest is what
the plan means, and has a hash of its own: a run may go on elsewhere as long as that one stays.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from rhapsode.core.errors import PlanRefused
from rhapsode.core.events import Events, stage
from rhapsode.core.manifest import is_complete, value_sha256, writing
from rhapsode.core.report import Report
from rhapsode.corpus.config import Source
from rhapsode.corpus.examples.config import ExampleSource
from rhapsode.corpus.examples.heads import purpose_of
from rhapsode.corpus.sources import expand
from rhapsode.corpus.tokens import Tokens
from rhapsode.recipe import extension
from rhapsode.recipe.base import Base
from rhapsode.recipe.first import from_base, from_scratch
from rhapsode.recipe.layout import Layout
from rhapsode.recipe.load import LoadedRecipe
from rhapsode.recipe.pace import here_on, settle_here
from rhapsode.recipe.recipe import Recipe, dump_recipe
from rhapsode.recipe.rows import packed, share_of_prompts, tell_rows
from rhapsode.recipe.samples import Sample, render_samples
from rhapsode.recipe.settled import MACHINE, meaning, settled_values
from rhapsode.recipe.teacher import learn_from
from rhapsode.recipe.tokens import make_corpus, make_tokens
from rhapsode.train.objectives.registry import samples_answers
from rhapsode.train.plan import Decision, TrainPlan
from rhapsode.train.ranks.ranks import ALONE, Ranks
from rhapsode.train.rewards import require_judgeable
from rhapsode.train.settle import Here
from rhapsode.train.trainer import Data

KIND = "plan"
SAMPLES = 3


class Before(NamedTuple):
    """The base as it was published, and the data as it reads it: what a model is measured beside."""

    base: Base
    tokens: Tokens


@dataclass(frozen=True)
class Plan:
    """A settled run. `settled` is what the hash covers; the rest is there to be shown.

    `base` is what training starts from; where its vocabulary was extended, `before` is another.
    """

    recipe: Recipe
    base_dir: Path
    corpus: Path
    data: Data
    train: TrainPlan
    decisions: list[Decision]
    samples: list[Sample]
    settled: dict[str, Any]
    device: torch.device
    base: Base | None = None
    teacher: Base | None = None
    before: Before | None = None

    @property
    def hash(self) -> str:
        return value_sha256(self.settled)

    @property
    def meaning(self) -> str:
        """The hash of what does not depend on the machine."""
        return value_sha256(meaning(self.settled))

    @property
    def machine(self) -> dict[str, Any]:
        """What the bytes depend on beside the meaning."""
        own = {name: self.settled[part][name] for part, names in MACHINE.items() for name in names}
        return {**self.settled["machine"], **own}

    @property
    def recipe_in_full(self) -> Recipe:
        """The recipe as it can be read from any folder: paths in it are absolute."""
        data, kind = self.recipe.data, "examples" if self.recipe.data.examples else "sources"
        given: Sequence[Source | ExampleSource] = data.given
        paths = [expand(s.path, key=f"data.{kind}[{i}].path", base=self.base_dir) for i, s in enumerate(given)]
        absolute = [s.model_copy(update={"path": str(p.absolute())}) for s, p in zip(given, paths, strict=True)]
        update: dict[str, Any] = {"data": data.model_copy(update={kind: absolute})}
        if self.base is not None:
            update["model"] = self.recipe.model.model_copy(update={"base": self.base.reference})
        if self.teacher is not None and self.recipe.train.objective is not None:
            objective = self.recipe.train.objective.model_copy(update={"teacher": self.teacher.reference})
            update["train"] = self.recipe.train.model_copy(update={"objective": objective})
        return self.recipe.model_copy(update=update)

    @property
    def base_directory(self) -> Path | None:
        return None if self.base is None else self.base.directory

    @property
    def teacher_directory(self) -> Path | None:
        return None if self.teacher is None else self.teacher.directory

    @property
    def licence(self) -> str:
        """The base's, which holds for what is made from it, or from scratch the names of its texts' licences.

        A teacher's stands beside them: some, as Gemma's, bind whoever learned from the model too.
        """
        own = {self.base.licence} if self.base is not None else {source.licence for source in self.recipe.data.given}
        return ", ".join(sorted(own | ({self.teacher.licence} if self.teacher is not None else set())))

    @property
    def name(self) -> str:
        return self.recipe.task.name


def make_plan(
    loaded: LoadedRecipe, *, layout: Layout, events: Events, ranks: Ranks = ALONE, here: Here | None = None
) -> Plan:
    """Prepare the data (or find it prepared) and settle everything else.

    Args:
        ranks: the processes that will train.
        here: what their machine is; looked at if absent.

    Raises:
        PlanRefused: the plan could not succeed, for example because there is too little data for one step.
    """
    recipe, base, teacher = loaded.recipe, loaded.base, loaded.teacher
    here = here or here_on(ranks, out=layout.out, events=events)
    with stage("prepare", events):
        corpus = make_corpus(loaded, layout=layout, events=events)
    with stage("tokenise", events):
        tokens = Tokens.open(make_tokens(loaded, corpus, layout=layout, events=events))
        before = None if base is None else _before(base, tokens, loaded, corpus, layout=layout, events=events)
        _require_judged(recipe, tokens)
        data = replace(packed(tokens, recipe=recipe, events=events), corpus=corpus)
    tell_rows(data, events)
    taught = [] if teacher is None else learn_from(teacher, data)
    loaded = extension.extended(loaded, tokens, layout=layout, events=events)
    base = loaded.base
    first = from_scratch(recipe, data, teacher=teacher, here=here) if base is None else from_base(base, recipe, data)
    new_tokens = [] if base is None or before is None else extension.decisions(base, data, before=before.tokens)
    train, decisions = settle_here(loaded, first, data, ranks=ranks, here=here, events=events)
    if samples_answers(train.objective):
        require_judgeable(train, data)
    return Plan(
        recipe=recipe,
        base_dir=loaded.base_dir,
        corpus=corpus,
        data=data,
        train=train,
        decisions=[*first.decisions, *new_tokens, *taught, *decisions],
        samples=render_samples(
            tokens.split("train"),
            data.training,
            data.tokenizer,
            count=SAMPLES,
            begin=train.begin,
            purpose=purpose_of(known) if (known := tokens.manifest.facts.get("purpose")) else None,
            prompts=share_of_prompts(recipe, tokens),
        ),
        settled=settled_values(recipe, corpus, data, train, ranks),
        device=ranks.device,
        base=base,
        teacher=teacher,
        before=before,
    )


def _require_judged(recipe: Recipe, tokens: Tokens) -> None:
    """Raises PlanRefused: a scorer judges what the examples do not hold."""
    family = tokens.manifest.facts.get("examples")
    if (task := recipe.evaluate.task) is not None and task.judges not in ("answers", family):
        raise PlanRefused(
            f"evaluate.task.scorers: {task.scorers[0]} judges {task.judges}, and the data is made of {family}",
            "name scorers of what the data holds, or give it other data",
        )


def _before(
    base: Base, tokens: Tokens, loaded: LoadedRecipe, corpus: Path, *, layout: Layout, events: Events
) -> Before:
    if not loaded.recipe.data.tokens.is_extending:
        return Before(base, tokens)
    return Before(base, Tokens.open(make_tokens(loaded, corpus, layout=layout, events=events, model=base.directory)))


def write_plan(plan: Plan, *, layout: Layout, shown: Mapping[str, Any], page: Report) -> Path:
    """Keep the plan as the one that `train` must match: plan.json, and the recipe with every value written out.

    Args:
        shown: what a person saw beside the settled values, such as the forecast.
        page: the same to look at.
    """
    path = layout.plans / plan.name
    with writing(path, kind=KIND, facts={"hash": plan.hash}) as work:
        value = {"hash": plan.hash, "settled": plan.settled, **shown}
        (work.path / "plan.json").write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        (work.path / "recipe.yaml").write_text(dump_recipe(plan.recipe_in_full), encoding="utf-8")
        page.write(work.path / "plan.html")
    return path


def copy_plan(plan: Plan, *, layout: Layout, to: Path) -> None:
    """Put the kept plan and its recipe beside what is made from them."""
    for name in ("plan.json", "recipe.yaml"):
        shutil.copyfile(layout.plans / plan.name / name, to / name)


def read_plan(name: str, *, layout: Layout) -> dict[str, Any] | None:
    """What `write_plan` kept, or None if nothing was planned under this name."""
    path = layout.plans / name
    if not is_complete(path):
        return None
    value: dict[str, Any] = json.loads((path / "plan.json").read_text(encoding="utf-8"))
    return value
