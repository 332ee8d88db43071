"""Where in the text of a JSON value a part of it stands.

Python's reader does not say. It is asked again only about rows that have a fault, one key at a time.
"""

import json
import re

from rhapsode.core.yaml import Key

_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()


def offset_of(text: str, key: Key) -> int | None:
    """At which character the value that `key` leads to begins, or the last value on the way that is there.

    None where `text` is no whole JSON value.
    """
    try:
        at = _after_space(text, 0)
        for step in key:
            found = _child(text, at, step)
            if found is None:
                break
            at = found
    except ValueError:
        return None
    return at


def place_of(text: str, key: Key, *, line: int, column: int) -> tuple[int, int]:
    """The line and column of a part of a value whose text begins at `line` and `column`."""
    at = offset_of(text, key) or 0
    num_ends = text.count("\n", 0, at)
    return (line + num_ends, at - text.rfind("\n", 0, at)) if num_ends else (line, column + at)


def _child(text: str, at: int, step: str | int) -> int | None:
    """Where the member or element `step` of the value at `at` begins."""
    if text[at : at + 1] != ("[" if isinstance(step, int) else "{"):
        return None
    at = _after_space(text, at + 1)
    found, number = None, 0
    while text[at : at + 1] not in ("]", "}", ""):
        name: object = number
        if not isinstance(step, int):
            name, at = _DECODER.raw_decode(text, at)
            at = _after_space(text, _after_space(text, at) + 1)  # the colon
        if name == step:
            found = at  # of a key that is there twice, the last counts
            if isinstance(step, int):
                return found
        _, at = _DECODER.raw_decode(text, at)
        at = _after_space(text, at)
        if text[at : at + 1] == ",":
            at = _after_space(text, at + 1)
        number += 1
    return found


def _after_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    assert match is not None
    return match.end()
