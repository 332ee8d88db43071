"""Everything that would happen, settled before it is spent.

A plan reads the data, derives the model and the training from the recipe, and shows what training will see. Its hash
is over what was settled, not over the recipe's text: the bytes of the corpus and the tokens, the packing, every number
of the training and the evaluation, the code and the machine's way of computing. Training runs exactly one hash.

What the machine alone decides (`MACHINE`) changes the rounding of sums and nothing that is learned. The rest is what
the plan means, and has a hash of its own: a run may go on elsewhere as long as that one stays.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from rhapsode import __version__
from rhapsode.core.errors import PlanRefused
from rhapsode.core.events import Events, stage
from rhapsode.core.manifest import is_complete, read_manifest, value_sha256, writing
from rhapsode.core.report import Report
from rhapsode.corpus.config import Source
from rhapsode.corpus.examples.config import ExampleSource
from rhapsode.corpus.examples.heads import purpose_of
from rhapsode.corpus.packing import Packing
from rhapsode.corpus.prompts import WithPrompts, count_targets
from rhapsode.corpus.sources import expand
from rhapsode.corpus.tokens import SPLITS, Tokens
from rhapsode.corpus.trees import num_learned, num_shared, pack_split, too_long
from rhapsode.kernels import native
from rhapsode.recipe import extension
from rhapsode.recipe.base import Base
from rhapsode.recipe.first import from_base, from_scratch
from rhapsode.recipe.layout import Layout
from rhapsode.recipe.load import LoadedRecipe
from rhapsode.recipe.pace import here_on, settle_here
from rhapsode.recipe.recipe import Recipe, dump_recipe
from rhapsode.recipe.samples import Sample, render_samples
from rhapsode.recipe.teacher import learn_from
from rhapsode.recipe.tokens import make_corpus, make_tokens
from rhapsode.text.tokenizer import Tokenizer
from rhapsode.train.objectives.balance import Balance, balance_of
from rhapsode.train.objectives.config import BY_TOKEN, DEFAULTS, ObjectiveConfig, SftConfig
from rhapsode.train.objectives.registry import samples_answers
from rhapsode.train.plan import Decision, TrainPlan
from rhapsode.train.ranks.ranks import ALONE, Ranks
from rhapsode.train.rewards import require_judgeable
from rhapsode.train.settle import Here
from rhapsode.train.trainer import Data

KIND = "plan"
SAMPLES = 3
NAMED = 5
MACHINE = {
    "train": ("precision", "micro_batch_rows", "recompute", "parallel", "tensor"),
    "code": ("torch",),
}
"""What is settled for the machine's sake, beside all of `machine`."""
UPKEEP = ("keep", "keep_every", "samples", "prompts")
"""What of `train` says which checkpoints stay and what is shown meanwhile: it may change at any time."""


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
        data = replace(_packed(tokens, recipe=recipe, events=events), corpus=corpus)
    _tell(data, events)
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
            prompts=_prompts(recipe, tokens),
        ),
        settled=_settle(recipe, corpus, data, train, ranks),
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


def _packed(tokens: Tokens, *, recipe: Recipe, events: Events) -> Data:
    """Rows of whole examples, or of text in pieces.

    Raises:
        PlanRefused: nothing is held out, or examples do not fit into a row and are not to be dropped.
    """
    context = recipe.model.context
    training, held_out = (_rows(tokens, name, recipe=recipe, events=events) for name in SPLITS)
    if prompts := _prompts(recipe, tokens):
        training = count_targets(training, WithPrompts(tokens.split("train"), prompts))
    if training.num_rows == 0:
        raise PlanRefused(f"nothing is left to train on in rows of {context} tokens", "make model.context larger")
    if held_out.num_rows == 0:
        raise PlanRefused("no document is held out, so nothing could be measured", "set data.split.validation above 0")
    if not any(map((held := tokens.split("validation")).is_wanted, range(held.num_documents))):
        raise PlanRefused("every held-out answer is bad, so nothing could be measured", "raise data.split.validation")
    return Data(tokens, training, held_out, Tokenizer.load(tokens.tokenizer_dir))


def _objective(recipe: Recipe, tokens: Tokens) -> ObjectiveConfig | None:
    """The recipe's, or what the data is made for; None where nothing learns from such data."""
    return recipe.train.objective or DEFAULTS.get(tokens.manifest.facts.get("examples"))


def _prompts(recipe: Recipe, tokens: Tokens) -> float:
    """The share of prompts that is learned beside the answers."""
    objective = _objective(recipe, tokens)
    return objective.learn_prompts if isinstance(objective, SftConfig) else 0.0


def _rows(tokens: Tokens, name: str, *, recipe: Recipe, events: Events) -> Packing:
    split, context = tokens.split(name), recipe.model.context
    objective = _objective(recipe, tokens)
    pack = partial(pack_split, context=context, is_shared=objective is not None and objective.name in BY_TOKEN)
    found = too_long(split, context=context)
    if not found:
        return pack(split)
    examples = sorted({int(split.examples[index]) for index in found})
    named = ", ".join(dict.fromkeys(split.document_source(index) for index in found[:NAMED]))
    lost = sum(num_learned(split, index) for index in found)
    what = f"{len(examples):,} of {int(split.examples[-1]) + 1:,} examples for {name} do not fit into model.context "
    what += f"{context} ({named}{', ...' if len(found) > NAMED else ''}): {lost:,} tokens of answers"
    longest = int(max(split.lengths[index] for index in found)) - 1
    if recipe.data.too_long == "refuse":
        hint = f"the longest needs {longest:,}; raise model.context, or leave them out with data.too_long: drop"
        raise PlanRefused(what + " would be lost", hint)
    events.emit("warning", message=what + " are left out, as data.too_long says")
    left_out = set(found)
    return pack(split, documents=[i for i in range(split.num_documents) if i not in left_out])


def _tell(data: Data, events: Events) -> None:
    train, held_out = (data.tokens.split(name) for name in ("train", "validation"))
    if (family := data.tokens.manifest.facts.get("examples")) is not None:
        events.emit(
            "examples",
            family=family,
            of=_of(family, balance_of(train.roles)),
            examples=int(train.examples[-1]) + 1,
            held_out=int(held_out.examples[-1]) + 1,
            learned=data.training.num_targets,
            read=data.training.num_places,
            rows=data.training.num_rows,
            context=data.training.context,
            efficiency=data.training.efficiency,
        )
        if shared := num_shared(train, data.training):
            events.emit("shared", shared=shared, read=shared + data.training.num_places)
        return
    events.emit(
        "tokens",
        vocabulary=data.tokenizer.vocab_size,
        tokens=train.num_tokens,
        bytes_per_token=train.num_bytes / max(1, train.num_tokens),
        rows=data.training.num_rows,
        context=data.training.context,
        efficiency=data.training.efficiency,
        held_out_documents=held_out.num_documents,
        held_out_bytes=held_out.num_bytes,
    )


def _of(family: str, balance: Balance | None) -> str:
    """What the examples are, in words."""
    return family if balance is None else f"{family}: {balance.good:,} good and {balance.bad:,} bad answers"


def _settle(recipe: Recipe, corpus: Path, data: Data, train: TrainPlan, ranks: Ranks) -> dict[str, Any]:
    return {
        "task": recipe.task.model_dump(mode="json"),
        "corpus": {"files": read_manifest(corpus).files},
        "tokens": {"files": data.tokens.manifest.files},
        "packing": {"train": _packing_hash(data.training), "validation": _packing_hash(data.held_out)},
        "train": train.as_json(),
        "evaluate": recipe.evaluate.model_dump(mode="json"),
        "code": {"rhapsode": __version__, "torch": torch.__version__},
        "machine": {
            "device": ranks.device.type,
            "ranks": ranks.size,
            "threads": torch.get_num_threads(),
            "instructions": torch.backends.cpu.get_cpu_capability(),
            "kernels": "C" if native.is_here() else "torch",
        },
    }


def meaning(settled: Mapping[str, Any]) -> dict[str, Any]:
    """What of a settled plan is the same on every machine."""
    left_out = {**MACHINE, "train": (*MACHINE["train"], *UPKEEP)}
    return {
        part: {k: v for k, v in value.items() if k not in left_out.get(part, ())}
        for part, value in settled.items()
        if part != "machine"
    }


def _packing_hash(packing: Packing) -> str:
    columns = (packing.row_offsets, *packing.columns)
    return hashlib.sha256(b"".join(column.tobytes() for column in columns)).hexdigest()


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


def changes(before: Any, now: Any, *, key: str = "") -> list[str]:
    """What differs between two settled plans, one line a leaf: "train.steps: 300 -> 600"."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = dict.fromkeys([*before, *now])
        lines = (changes(before.get(k), now.get(k), key=f"{key}.{k}".strip(".")) for k in keys)
        return [line for part in lines for line in part]
    before, now = (json.loads(json.dumps(value)) for value in (before, now))
    return [] if before == now else [f"{key}: {_short(before)} -> {_short(now)}"]


def _short(value: Any) -> str:
    text = "absent" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
