"""The model before the first step: a shape to fill with random numbers, or trained weights."""

from typing import NamedTuple

from rhapsode.core.errors import PlanRefused
from rhapsode.core.units import format_count
from rhapsode.corpus.examples.heads import purpose_of
from rhapsode.corpus.tokens import SPLITS
from rhapsode.model.families.registry import with_head
from rhapsode.model.size import Ids, best_size, shape_of
from rhapsode.model.spec import Head, ModelSpec, Pooling
from rhapsode.recipe.base import Base
from rhapsode.recipe.begin import begin_of_pieces
from rhapsode.recipe.recipe import Recipe
from rhapsode.text.tokenizer import Tokenizer
from rhapsode.train.objectives.config import EmbedConfig
from rhapsode.train.plan import Decision
from rhapsode.train.settle import Here
from rhapsode.train.trainer import Data
from rhapsode.weights.directory import stop_tokens

SHOWN_LABELS = 6
UTILISATION = 0.6
"""Of the measured rate of matrix products, about what training reaches."""


class First(NamedTuple):
    """Its architecture, the tokens that end its answers and that begin pieces of text, and how all this came to be."""

    spec: ModelSpec
    stops: tuple[int, ...]
    begin: int | None
    decisions: list[Decision]


def from_scratch(recipe: Recipe, data: Data, *, teacher: Base | None = None, here: Here) -> First:
    """The shape that `model.size` asks for, or the budget; its pieces begin as those that a teacher has learned.

    Raises:
        PlanRefused: the vocabulary alone needs more than that.
    """
    tokenizer, chosen = data.tokenizer, []
    config, size = recipe.model, recipe.model.size
    if size is None:
        amount, unit = recipe.train.budget
        operations = None if here.flops is None else amount * here.flops * UTILISATION
        size, why = best_size(
            tokens=amount if unit == "tokens" else None,
            operations=operations if unit == "seconds" else None,
            num_tokens=data.training.num_targets,
            vocab_size=tokenizer.vocab_size,
        )
        chosen = [Decision("size", format_count(size), why)]
    shape = shape_of(config, size=size, ids=Ids(tokenizer.vocab_size, tokenizer.bos, tokenizer.eos, tokenizer.pad))
    stops = tuple(sorted({tokenizer.eos, tokenizer.end_of_turn}))
    begin, told = (None, []) if teacher is None else _begin(tokenizer, teacher, kind="teacher")
    return First(shape.spec, stops, begin, [*chosen, *(Decision(*row) for row in shape.derivation), *told])


def _rows_needed(data: Data) -> int:
    """For every text, and every special token that the data has."""
    return max(data.tokenizer.rows_needed, *(1 + data.tokens.split(name).largest for name in SPLITS))


def from_base(base: Base, recipe: Recipe, data: Data) -> First:
    """The base's own.

    Raises:
        PlanRefused: the tokens have an id that the base has no row for.
    """
    spec, tokenizer = base.spec, data.tokenizer
    head, told = _head(base, recipe, data)
    if (needed := _rows_needed(data)) > spec.vocab_size:
        raise PlanRefused(
            f"{base.title}: its tokenizer has the token {needed - 1:,} ({tokenizer.show(needed - 1)!r}), and the model "
            f"{spec.vocab_size:,} rows, from 0",
            "put the tokenizer beside the model that it was trained with; tokens of your own go into "
            "data.tokens.new_pieces or new_special, which give them rows",
        )
    decisions = [
        Decision("base", base.title, f"model.base is {base.reference}; its manifest is {base.sha256[:12]}"),
        Decision("licence", base.licence, "of the base, and so of what is made from it"),
        Decision("parameters", f"{spec.parameters:,}", f"of the base: {spec.family}, {len(spec.layers)} blocks"),
        Decision("vocabulary", f"{spec.vocab_size:,} x {spec.width}", "of the base, with its tokenizer"),
        Decision("context", f"{recipe.model.context:,}", f"model.context; the base reads up to {spec.context:,}"),
    ]
    begin, begins = _begin(tokenizer, base, kind="base")
    decisions += [*told, *begins]
    stops = set(stop_tokens(base.directory))
    if recipe.data.examples:
        stops |= {tokenizer.eos, tokenizer.end_of_turn}
        if (template := data.tokens.manifest.facts.get("template")) is not None:
            why = "the base was published without one, and its vocabulary has the tokens for this"
            decisions.append(Decision("chat template", template, why))
    if head is not None:
        spec = with_head(spec, head, pad=tokenizer.pad)
    return First(spec, tuple(sorted(stops)), begin, decisions)


def _begin(tokenizer: Tokenizer, model: Base, *, kind: str) -> tuple[int | None, list[Decision]]:
    """What every piece of text begins with, for a base or a teacher."""
    begin = begin_of_pieces(tokenizer, model.facts)
    if begin is None:
        return None, []
    why = f"the {kind} has read no text without it, not even a piece from the middle of one"
    return begin, [Decision("every piece begins with", tokenizer.show(begin), why)]


def _head(base: Base, recipe: Recipe, data: Data) -> tuple[Head | None, list[Decision]]:
    """What is put in place of the base's projection to the vocabulary, and why.

    Raises:
        PlanRefused: the base has none, and is to write.
    """
    if (known := data.tokens.manifest.facts.get("purpose")) is None:
        if base.spec.head is not None:
            raise PlanRefused(
                f"{base.title} does not write: it {base.spec.head.purpose}", "name a base that does, or its objective"
            )
        return None, []
    purpose = purpose_of(known)
    pooling: Pooling = "last"
    if isinstance(objective := recipe.train.objective, EmbedConfig):
        pooling = objective.pooling
    head = Head(purpose.labels, pooling)
    if not purpose.labels:
        return head, [Decision("vectors", f"{base.spec.width} numbers", f"the {pooling} of the tokens' last states")]
    shown = ", ".join(purpose.labels[:SHOWN_LABELS]) + (", ..." if len(purpose.labels) > SHOWN_LABELS else "")
    why = "the answers of the training rows" if purpose.kind == "classify" else "of an answer, read at its last token"
    where = "it begins as that of the base" if base.spec.head == head else "its matrix begins at zero"
    return head, [Decision("head", f"{len(purpose.labels)}: {shown}", f"{why}; {where}")]
