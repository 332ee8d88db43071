"""The model before the first step: a shape to fill with random numbers, or trained weights."""

from typing import NamedTuple

from rhapsode.core.errors import PlanRefused
from rhapsode.corpus.tokens import SPLITS, Tokens
from rhapsode.model.size import Ids, shape_of
from rhapsode.model.spec import ModelSpec
from rhapsode.recipe.base import Base
from rhapsode.recipe.begin import begin_of_pieces
from rhapsode.recipe.recipe import Recipe
from rhapsode.text.tokenizer import Tokenizer
from rhapsode.train.plan import Decision
from rhapsode.weights.directory import stop_tokens


class First(NamedTuple):
    """Its architecture, the tokens that end its answers and that begin pieces of text, and how all this came to be."""

    spec: ModelSpec
    stops: tuple[int, ...]
    begin: int | None
    decisions: list[Decision]


def from_scratch(recipe: Recipe, tokenizer: Tokenizer) -> First:
    """The shape that `model.size` asks for.

    Raises:
        PlanRefused: the vocabulary alone needs more than that.
    """
    shape = shape_of(recipe.model, ids=Ids(tokenizer.vocab_size, tokenizer.bos, tokenizer.eos, tokenizer.pad))
    stops = tuple(sorted({tokenizer.eos, tokenizer.end_of_turn}))
    return First(shape.spec, stops, None, [Decision(*row) for row in shape.derivation])


def from_base(base: Base, recipe: Recipe, tokens: Tokens, tokenizer: Tokenizer) -> First:
    """The base's own.

    Raises:
        PlanRefused: the tokens have an id that the base has no row for.
    """
    spec = base.spec
    if (largest := max(tokens.split(name).largest for name in SPLITS)) >= spec.vocab_size:
        raise PlanRefused(
            f"{base.title}: its tokenizer gives token {largest:,}, the model has {spec.vocab_size:,}",
            "put the tokenizer beside the model that it was trained with",
        )
    decisions = [
        Decision("base", base.title, f"model.base is {base.reference}; its manifest is {base.sha256[:12]}"),
        Decision("licence", base.licence, "of the base, and so of what is made from it"),
        Decision("parameters", f"{spec.parameters:,}", f"of the base: {spec.family}, {len(spec.layers)} blocks"),
        Decision("vocabulary", f"{spec.vocab_size:,} x {spec.width}", "of the base, with its tokenizer"),
        Decision("context", f"{recipe.model.context:,}", f"model.context; the base reads up to {spec.context:,}"),
    ]
    begin = begin_of_pieces(tokenizer, base.facts)
    if begin is not None:
        why = "the base has read no text without it, not even a piece from the middle of one"
        decisions.append(Decision("every piece begins with", tokenizer.show(begin), why))
    return First(spec, stop_tokens(base.directory), begin, decisions)
