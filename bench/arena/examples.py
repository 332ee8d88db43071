"""The same examples for everybody: those of each of our steps, in their order, as other software wants them."""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from rhapsode.core.events import Events
from rhapsode.recipe.layout import Layout
from rhapsode.recipe.load import load_recipe
from rhapsode.recipe.plan import Plan, make_plan
from rhapsode.train.loader import Loader

CPU = torch.device("cpu")
IGNORE = -100


class Contest(NamedTuple):
    """What all sides are told: a recipe with its changes, where its tokens lie, threads, and steps before the end."""

    recipe: Path
    changes: tuple[str, ...]
    out: Path
    threads: int
    steps: int

    def plan(self) -> Plan:
        alike = [
            "train.budget=100000 steps",
            "train.warmup=0",
            "train.decay=0",
            "train.objective={name: sft, learn_prompts: 0}",
        ]
        loaded = load_recipe(self.recipe, [*self.changes, *alike])
        return make_plan(loaded, layout=Layout(self.out), events=Events())


class Example(NamedTuple):
    """Ids, and what of them is to be predicted where they stand; IGNORE elsewhere."""

    ids: list[int]
    labels: list[int]


def order_of(plan: Plan) -> Iterator[list[int]]:
    """The sequences of our steps, without a model."""
    load = Loader(
        plan.data.tokens.split("train"),
        plan.data.training,
        rows=plan.train.batch_rows,
        seed=plan.train.order_seed,
        pad=plan.data.tokenizer.pad,
        begin=plan.train.begin,
        device=CPU,
    )
    for step in itertools.count():
        pieces = (piece for row in load.rows_of(step) for piece in plan.data.training.row(row))
        yield list(dict.fromkeys(piece.document for piece in pieces))


def examples_of(plan: Plan, chosen: Sequence[int]) -> list[Example]:
    """From the shortest to the longest, so that whoever pads them together pads little."""
    split = plan.data.tokens.split("train")
    found = []
    for index in chosen:
        ids, learned = split.document(index).tolist(), split.learned(index)
        assert learned is not None, "examples say what is learned"
        found.append(
            Example(ids, [token if is_learned else IGNORE for token, is_learned in zip(ids, learned, strict=True)])
        )
    return sorted(found, key=lambda example: len(example.ids))


def shared_out(examples: Sequence[Example], count: int) -> list[list[Example]]:
    """So many micro-batches, as equal as can be."""
    bounds = [len(examples) * number // count for number in range(count + 1)]
    return [list(examples[start:stop]) for start, stop in itertools.pairwise(bounds)]
