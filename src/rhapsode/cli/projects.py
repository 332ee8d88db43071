"""Kinds of projects and new ones, as people see them."""

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console

from rhapsode.cli.console import table

if TYPE_CHECKING:
    from rhapsode.tasks.pack import Pack
    from rhapsode.tasks.project import Project


def kinds_as_json(packs: "Sequence[Pack]") -> list[dict[str, Any]]:
    """What a program may want to know before it makes one."""
    return [
        {
            "name": pack.name,
            "line": pack.line,
            "purpose": pack.purpose,
            "shape": pack.shape,
            "scorers": list(pack.scorers),
            "rows": pack.num_rows,
            "risk": pack.risk,
            "review": pack.review,
        }
        for pack in packs
    ]


def show_kinds(console: Console, packs: "Sequence[Pack]") -> None:
    console.print(table("", ("kind", "what the model does", "judged by"), [_row(pack) for pack in packs]))
    console.print("rhapsode new KIND [DIRECTORY]", style="bold", soft_wrap=True)


def show_project(console: Console, project: "Project") -> None:
    console.print(f"{project.directory}: {', '.join(project.files)} ({project.num_rows} rows)", soft_wrap=True)
    where = shlex.quote(str(project.directory))
    steps = [] if str(project.directory) == "." else [f"cd {where}"]
    if not project.base.is_here:
        steps.append(f"rhapsode models pull {project.base.name}")
    for step in (*steps, "rhapsode plan recipe.yaml", "rhapsode run recipe.yaml"):
        console.print(step, style="bold", soft_wrap=True)


def _row(pack: "Pack") -> tuple[str, str, str]:
    return pack.name, pack.line, ", ".join(pack.scorers)
