"""Globs over relative names, as people know them from .gitignore.

`*` and `?` stay inside a folder, `**` crosses folders. A glob without "/" matches a name at any depth. A glob that
matches a folder holds for everything in it.
"""

import re
from collections.abc import Sequence


class Globs:
    """What is included (everything, when nothing is said) and not excluded."""

    def __init__(self, *, include: Sequence[str], exclude: Sequence[str]) -> None:
        self._include = _pattern(include)
        self._exclude = _pattern(exclude)

    def admit(self, name: str, *, is_folder: bool = False) -> bool:
        """A folder that is passed over as a whole counts as included, since what is in it might be."""
        if self._exclude and self._exclude.fullmatch(name):
            return False
        return is_folder or self._include is None or self._include.fullmatch(name) is not None


def _pattern(globs: Sequence[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(map(_translate, globs)), re.DOTALL) if globs else None


def _translate(glob: str) -> str:
    glob = glob.removeprefix("./")
    anywhere = "" if "/" in glob.rstrip("/") else "(?:.*/)?"
    glob = glob.strip("/").removesuffix("/**") if glob.strip("/") != "**" else "**"
    tokens = re.findall(r"\*\*/|\*\*|\*|\?|\[!?[^\]/]+\]|.", glob, re.DOTALL)
    return f"{anywhere}{''.join(_TOKENS.get(token) or _literal(token) for token in tokens)}(?:/.*)?"


_TOKENS = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


def _literal(token: str) -> str:
    """A character, or a set of them; a set that makes no sense means itself, as in a shell."""
    if len(token) > 1:
        inner = token[1:-1].replace("\\", r"\\").replace("[", r"\[").replace("^", r"\^")
        pattern = f"[^/{inner[1:]}]" if inner.startswith("!") else f"[{inner}]"
        try:
            re.compile(pattern)
        except re.error:
            return re.escape(token)
        return pattern
    return re.escape(token)
