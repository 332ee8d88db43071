"""The base of a recipe with the tokens that the recipe adds: a model directory like any other, made once."""

import json
import math
from dataclasses import replace

from rhapsode import __version__
from rhapsode.core.errors import PlanRefused
from rhapsode.core.events import Events, stage
from rhapsode.core.manifest import digest, is_complete, read_manifest, value_sha256
from rhapsode.corpus.new_tokens import NewTokens, read_new_tokens
from rhapsode.corpus.tokenise import REPORT
from rhapsode.corpus.tokens import SPLITS, Tokens
from rhapsode.recipe.base import Base
from rhapsode.recipe.layout import Layout
from rhapsode.recipe.load import LoadedRecipe
from rhapsode.text.tokenizer import Tokenizer
from rhapsode.train.plan import Decision
from rhapsode.train.trainer import Data
from rhapsode.weights.directory import read_spec
from rhapsode.weights.extend import KIND, ROWS, extend_model

SHOWN = 8


def extended(loaded: LoadedRecipe, tokens: Tokens, *, layout: Layout, events: Events) -> LoadedRecipe:
    """The recipe, whose base has a row for every token; where none is new, as it is.

    Raises:
        PlanRefused: the text has nothing to learn a new piece from.
    """
    base, new = loaded.base, read_new_tokens(tokens.path)
    if base is None or new is None:
        return loaded
    if not new.words:
        raise PlanRefused(
            "no new piece could be learned: no two neighbouring tokens stand together twice in the text",
            "add data, or leave data.tokens.new_pieces out",
        )
    inputs = {"base": base.sha256, "tokens": digest(tokens.path), "code": __version__}
    path = layout.bases / value_sha256(inputs)[:16]
    if not is_complete(path):
        with stage("extend", events):
            extend_model(
                base.directory,
                path,
                tokenizer_dir=tokens.tokenizer_dir,
                first=new.first,
                replaced=new.replaced,
                facts={**base.facts, "licence": base.licence, "base": base.title},
            )
    facts = read_manifest(path, kind=KIND).facts
    made = base._replace(directory=path, facts=facts, sha256=digest(path), spec=read_spec(path))
    return replace(loaded, base=made)


def decisions(base: Base, data: Data, *, before: Tokens) -> list[Decision]:
    """What is new, and how many ids that saves, counted in all of the text; nothing where nothing is."""
    tokens, tokenizer = data.tokens, data.tokenizer
    new = read_new_tokens(tokens.path)
    if new is None:
        return []
    found = []
    if new.num_pieces:
        found.append(Decision("new pieces", f"{new.num_pieces:,}", f"data.tokens.new_pieces: {_some(new, tokenizer)}"))
    if names := new.words[new.num_pieces :]:
        found.append(Decision("new special tokens", ", ".join(names), "data.tokens.new_special"))
    rows = base.facts[ROWS]
    why = f"of {rows['rows_before']:,} that the base has; each new one begins as the mean of the tokens it replaces"
    found.append(Decision("rows", f"{rows['rows']:,}", why))
    return found + [_saved(name, tokens, before) for name in SPLITS]


def _some(new: NewTokens, tokenizer: Tokenizer) -> str:
    shown = [repr(tokenizer.decode([token])) for token in new.ids[: min(SHOWN, new.num_pieces)]]
    return ", ".join(shown) + (", ..." if new.num_pieces > SHOWN else "")


def _saved(name: str, tokens: Tokens, before: Tokens) -> Decision:
    """What the new tokens save in one split."""
    now, then = (opened.split(name).num_tokens for opened in (tokens, before))
    each, before_each = (bytes_per_token(opened, name) for opened in (tokens, before))
    kind = "held-out text" if name == "validation" else "text for training"
    why = f"{before_each:.2f} without the new tokens; {now:,} ids instead of {then:,}, {1 - now / then:.1%} fewer"
    return Decision(f"bytes per token, {kind}", f"{each:.2f}", why)


def bytes_per_token(tokens: Tokens, name: str) -> float:
    """Of the text of a split; of examples, of what is learned."""
    report = json.loads((tokens.path / REPORT).read_text(encoding="utf-8"))
    return float(report["splits"][name]["bytes_per_token"] or math.nan)
