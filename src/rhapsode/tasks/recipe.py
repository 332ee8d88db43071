"""The recipe that a new project begins with: short, every line meant to be looked at, with what to change first."""

import re
import textwrap
from typing import Any

from rhapsode.core.yaml import write_yaml
from rhapsode.tasks.pack import Pack

ROWS = "data/train.jsonl"
VALIDATION = 0.15
LICENCE = "CC0-1.0"
"""Of rows that our generators write."""
Entry = tuple[str, Any, str]
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


def recipe_text(pack: Pack, *, base: str) -> str:
    """A recipe as a person would write it; `base` is a model's name, or a path."""
    head = f"# {pack.purpose}\n# The rows are made up: see how it works with them, then put your own in their place.\n"
    return "\n".join([head, *(_section(name, entries) for name, entries in _sections(pack, base).items())])


def _sections(pack: Pack, base: str) -> dict[str, list[Entry]]:
    """Keys, values, and a remark where one helps."""
    rows: dict[str, Any] = {"path": ROWS, "shape": pack.shape, "licence": LICENCE}
    if pack.templates:
        rows["templates"] = dict(pack.templates)
    scored = {"scorers": list(pack.scorers), "max_tokens": pack.max_tokens}
    return {
        "task": [
            ("name", pack.name, "of the run and its model: out/runs/NAME"),
            ("purpose", pack.purpose, ""),
            ("languages", list(pack.languages), ""),
            ("prompts", list(pack.prompts), "asked while it trains, so that you see it learn; put yours here"),
        ],
        "model": [
            ("base", base, "`rhapsode models` lists others, and what fits this machine"),
            (
                "context",
                pack.context,
                "tokens of the longest row; the plan says what does not fit, nothing is ever cut",
            ),
        ],
        "data": [
            ("examples", [rows], "your own rows go here; there may be several files"),
            ("split", {"validation": VALIDATION}, "never trained on; rows that ask the same stay on one side"),
        ],
        "train": [
            ("budget", pack.budget, "passes over the rows; or a time: 20m"),
            ("adapter", {"rank": 16}, "LoRA, merged at the end; without it all weights are trained"),
        ],
        "evaluate": [
            ("task", scored, "judged on the held-out rows, before and after; the first scorer gives the verdict"),
        ],
    }


def _section(name: str, entries: list[Entry]) -> str:
    lines = [f"{name}:\n"]
    for key, value, remark in entries:
        first, _, rest = _shown(key, value).partition("\n")
        lines.append(textwrap.indent(f"{first}{f' # {remark}' if remark else ''}\n{rest}", "  "))
    return "".join(lines)


def _shown(key: str, value: Any) -> str:
    """YAML; what is short stands on one line."""
    if isinstance(value, list) and all(isinstance(item, str) and _WORD.fullmatch(item) for item in value):
        return f"{key}: [{', '.join(value)}]\n"
    if isinstance(value, dict):
        return f"{key}:\n" + "".join(textwrap.indent(_shown(name, item), "  ") for name, item in value.items())
    return write_yaml({key: value})
