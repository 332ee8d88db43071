"""The corpus of a recipe as tokens: in those of its base, or of a vocabulary that is learned from it."""

from pathlib import Path

from rhapsode.core.events import Events
from rhapsode.corpus.tokenise import tokenise
from rhapsode.recipe.layout import Layout
from rhapsode.recipe.load import LoadedRecipe
from rhapsode.weights.directory import stop_tokens


def make_tokens(
    loaded: LoadedRecipe, corpus: Path, *, layout: Layout, events: Events, model: Path | None = None
) -> Path:
    """Make the tokens directory, or find it made.

    Args:
        model: read the text with the tokenizer of this model directory, whatever the recipe says.
    """
    given = model or (loaded.base and loaded.base.directory)
    return tokenise(
        corpus,
        loaded.recipe.data.tokens,
        root=layout.tokens,
        events=events,
        tokenizer_dir=given,
        stops=stop_tokens(given) if given and loaded.recipe.data.examples else (),
    )
