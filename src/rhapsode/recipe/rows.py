"""A recipe's tokens as packed rows: whole examples, or text in pieces."""

from functools import partial

from rhapsode.core.errors import PlanRefused
from rhapsode.core.events import Events
from rhapsode.corpus.packing import Packing
from rhapsode.corpus.prompts import WithPrompts, count_targets
from rhapsode.corpus.tokens import SPLITS, Tokens
from rhapsode.corpus.trees import num_learned, num_shared, pack_split, too_long
from rhapsode.recipe.recipe import Recipe
from rhapsode.text.tokenizer import Tokenizer
from rhapsode.train.objectives.balance import Balance, balance_of
from rhapsode.train.objectives.config import BY_TOKEN, DEFAULTS, ObjectiveConfig, SftConfig
from rhapsode.train.trainer import Data

NAMED = 5


def packed(tokens: Tokens, *, recipe: Recipe, events: Events) -> Data:
    """Rows of whole examples, or of text in pieces.

    Raises:
        PlanRefused: nothing is held out, or examples do not fit into a row and are not to be dropped.
    """
    context = recipe.model.context
    training, held_out = (_rows(tokens, name, recipe=recipe, events=events) for name in SPLITS)
    if prompts := share_of_prompts(recipe, tokens):
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


def share_of_prompts(recipe: Recipe, tokens: Tokens) -> float:
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


def tell_rows(data: Data, events: Events) -> None:
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
