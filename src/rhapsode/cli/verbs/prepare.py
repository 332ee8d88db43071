"""`rhapsode prepare`: sources to a clean corpus and its tokens."""

import json as json_module
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from rhapsode.cli import options
from rhapsode.cli.console import give, table
from rhapsode.core.units import format_bytes, format_count


def prepare(
    recipe: options.Recipe,
    /,
    *,
    overrides: options.Overrides = (),
    out: options.Out = options.OUT,
    json: options.Json = False,
) -> None:
    """Read, clean, deduplicate and split the recipe's sources, and turn them into tokens."""
    from rhapsode.cli.progress import watched
    from rhapsode.recipe.layout import Layout
    from rhapsode.recipe.load import load_recipe
    from rhapsode.recipe.tokens import make_corpus, make_tokens

    loaded, layout = load_recipe(recipe, overrides), Layout(out)
    with watched() as events:
        corpus = make_corpus(loaded, layout=layout, events=events)
        tokens = make_tokens(loaded, corpus, layout=layout, events=events)
    result = {
        "corpus": {"path": str(corpus), **_report(corpus)},
        "tokens": {"path": str(tokens), **_report(tokens)},
    }
    give(result, as_json=json, show=lambda console: _show(console, result))


def _report(directory: Path) -> dict[str, Any]:
    report: dict[str, Any] = json_module.loads((directory / "report.json").read_text(encoding="utf-8"))
    return report


def _show(console: Console, result: Mapping[str, Any]) -> None:
    corpus, tokens = result["corpus"], result["tokens"]
    documents, splits = corpus["documents"], tokens["splits"]
    sides = [
        (
            side,
            f"{split['documents']} documents",
            format_bytes(split["bytes"]),
            f"{format_count(split['tokens'])} tokens",
        )
        for side, split in splits.items()
    ]
    console.print(table("Corpus", ("", "", "", ""), sides, right=(1, 2, 3)))
    reasons = [(name, str(reason["count"])) for name, reason in documents["dropped_by_reason"].items()]
    skipped = [(name, str(reason["count"])) for name, reason in corpus["files"]["skipped_by_reason"].items()]
    if reasons:
        console.print(
            table(f"Dropped {documents['dropped']} of {documents['read']} documents", ("", ""), reasons, right=(1,))
        )
    if skipped:
        console.print(table(f"Skipped {corpus['files']['skipped']} files", ("", ""), skipped, right=(1,)))
    console.print(f"corpus  {corpus['path']}\ntokens  {tokens['path']}", soft_wrap=True)
