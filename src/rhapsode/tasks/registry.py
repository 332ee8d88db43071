"""The packs by name. Each is a module that is imported when it is asked for; a new one is a file and a line here."""

import difflib
import importlib
from typing import cast

from rhapsode.core.errors import RecipeError
from rhapsode.tasks.pack import Pack

_HERE = "rhapsode.tasks.packs"
PACKS = {
    "support": f"{_HERE}.support",
    "summarise": f"{_HERE}.summarise",
    "translate": f"{_HERE}.translate",
    "classify": f"{_HERE}.classify",
    "extract": f"{_HERE}.extract",
    "code": f"{_HERE}.code",
    "tutor": f"{_HERE}.tutor",
    "draft": f"{_HERE}.draft",
}


def pack_named(name: str) -> Pack:
    """The pack of this name.

    Raises:
        RecipeError: there is none.
    """
    if name not in PACKS:
        near = difflib.get_close_matches(name, PACKS, n=1)
        meant = f"did you mean {near[0]}? " if near else ""
        raise RecipeError(f"there is no kind of project called {name!r}", f"{meant}there are: {', '.join(PACKS)}")
    return cast(Pack, importlib.import_module(PACKS[name]).PACK)


def packs() -> list[Pack]:
    """All of them, in the order of the list."""
    return [pack_named(name) for name in PACKS]
