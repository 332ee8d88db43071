"""`rhapsode evaluate`: how good a model is."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from rhapsode.cli import options
from rhapsode.cli.console import give


def evaluate(
    recipe: options.Recipe,
    /,
    *,
    model: Annotated[
        Path | None,
        Parameter(name="--model", help="A model directory or name; without it, the newest of the recipe's run."),
    ] = None,
    overrides: options.Overrides = (),
    out: options.Out = options.OUT,
    json: options.Json = False,
) -> None:
    """Measure a model on the recipe's held-out documents, beside the baselines."""
    from rhapsode.cli.models import find_model
    from rhapsode.cli.progress import watched
    from rhapsode.cli.tables import show_evaluation
    from rhapsode.core.manifest import read_manifest
    from rhapsode.evaluate.evaluate import evaluate as measure
    from rhapsode.recipe.begin import begin_of_pieces
    from rhapsode.recipe.layout import Layout
    from rhapsode.recipe.load import load_recipe
    from rhapsode.recipe.run import check_gate
    from rhapsode.recipe.tokens import make_corpus, make_tokens
    from rhapsode.text.tokenizer import Tokenizer
    from rhapsode.weights.directory import load_model

    loaded, layout = load_recipe(recipe, overrides), Layout(out)
    directory = find_model(model or layout.runs / loaded.recipe.task.name)
    with watched() as events:
        corpus = make_corpus(loaded, layout=layout, events=events)
        # another model reads the text with its own tokenizer, and the baselines see the same tokens as the model
        tokens = make_tokens(loaded, corpus, layout=layout, events=events, model=model and directory)
        found = measure(
            load_model(directory),
            tokens,
            corpus=corpus,
            config=loaded.recipe.evaluate,
            root=layout.baselines,
            events=events,
            context=loaded.recipe.model.context,
            begin=begin_of_pieces(Tokenizer.load(directory), read_manifest(directory).facts),
            base=None if model or loaded.base is None else loaded.base.directory,
            name=loaded.recipe.task.name,
        )
    result = {"model": str(directory), "evaluation": found.as_json()}
    give(result, as_json=json, show=lambda console: show_evaluation(console, found))
    check_gate(found)
