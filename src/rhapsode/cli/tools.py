"""Tools for a talk in the terminal: a file lists them, and the person who talks carries the calls out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from rhapsode.core.errors import RecipeError
from rhapsode.core.yaml import format_key

if TYPE_CHECKING:
    from rhapsode.corpus.examples.example import Tools

_HINT = 'a JSON list: [{"type": "function", "function": {"name": ..., "parameters": ...}}]'


def read_tools_file(path: Path) -> Tools:
    """The tools that a JSON file lists, in OpenAI's shape or as their functions alone.

    Raises:
        RecipeError: it cannot be read, or one of them is no tool.
    """
    from rhapsode.corpus.examples.fault import Misshapen
    from rhapsode.corpus.examples.shapes.turns import read_tools

    try:
        return read_tools(json.loads(path.read_text(encoding="utf-8")), ())
    except OSError as error:
        raise RecipeError(f"--tools {path}: {error.strerror or error}", _HINT) from None
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"--tools {path}: not JSON: {error}", _HINT) from None
    except Misshapen as error:
        place = f"{format_key(error.problem.key)}: " if error.problem.key else ""
        raise RecipeError(f"--tools {path}: {place}{error.problem.what}", _HINT) from None
