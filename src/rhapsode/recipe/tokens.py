"""The corpus of a recipe, and the same as tokens: of its base, else its teacher, else a vocabulary learned from it."""

from pathlib import Path

from rhapsode.core.events import Events
from rhapsode.core.manifest import read_manifest
from rhapsode.corpus.documents import iter_documents
from rhapsode.corpus.examples.heads import Purpose, find_purpose
from rhapsode.corpus.examples.prepare import prepare_examples
from rhapsode.corpus.prepare import prepare
from rhapsode.corpus.tokenise import tokenise
from rhapsode.recipe.layout import Layout
from rhapsode.recipe.load import LoadedRecipe
from rhapsode.train.objectives.config import FOR, HEADS
from rhapsode.weights.directory import stop_tokens


def make_corpus(loaded: LoadedRecipe, *, layout: Layout, events: Events) -> Path:
    """Make the corpus of text, or of examples, or find it made."""
    data = loaded.recipe.data
    making = prepare_examples if data.examples else prepare
    return making(data, root=layout.corpora, base=loaded.base_dir, events=events)


def make_tokens(
    loaded: LoadedRecipe, corpus: Path, *, layout: Layout, events: Events, model: Path | None = None
) -> Path:
    """Make the tokens directory, or find it made.

    Args:
        model: read the text with the tokenizer of this model directory as it is, whatever the recipe says.
    """
    named = loaded.base or loaded.teacher
    given = model or (named and named.directory)
    config = loaded.recipe.data.tokens
    return tokenise(
        corpus,
        config if model is None else config.as_given,
        root=layout.tokens,
        events=events,
        tokenizer_dir=given,
        stops=stop_tokens(given) if given and loaded.recipe.data.examples else (),
        purpose=_purpose(loaded, corpus),
    )


def _purpose(loaded: LoadedRecipe, corpus: Path) -> Purpose | None:
    """What a head has to learn; None where the model writes, or has other examples, which the plan refuses."""
    objective = loaded.recipe.train.objective
    if objective is None or objective.name not in HEADS:
        return None
    families = FOR[objective.name]
    if read_manifest(corpus).facts.get("examples") not in families:
        return None
    return find_purpose(HEADS[objective.name], iter_documents(corpus, split="train"))
