"""`rhapsode schema`: what a recipe may hold, as a JSON Schema."""

import json as json_module

from rhapsode.cli import options
from rhapsode.cli.console import give


def schema(*, json: options.Json = False) -> None:
    """Print the JSON Schema of a recipe, for editors and forms."""
    from rhapsode.recipe.recipe import recipe_schema

    result = recipe_schema()
    give(result, as_json=json, show=lambda out: out.print_json(json_module.dumps(result), highlight=out.is_terminal))
