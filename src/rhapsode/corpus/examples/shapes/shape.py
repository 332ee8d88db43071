"""What every shape says about itself."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from rhapsode.core.yaml import Key
from rhapsode.corpus.examples.example import Example

Row = Mapping[str, Any]


class Shape(NamedTuple):
    """A way in which people write examples.

    Attributes:
        name: what people call it.
        needs: the fields by which it is known, in words.
        keys: the fields that it reads; others are counted and not read.
        turns: of these, those that hold messages, and what is read of a message.
        looks_like: whether a row has this shape, right or wrong; at most one shape says so of an ordinary row.
        convert: the example in a row; raises `Misshapen`.
        place: from a key of the example ("messages", 2, "content") to that of the row it came from.
    """

    name: str
    needs: str
    keys: frozenset[str]
    turns: Mapping[str, frozenset[str]]
    looks_like: Callable[[Row], bool]
    convert: Callable[[Row], Example]
    place: Callable[[Row, Key], Key]


def unread(row: Row, shape: Shape) -> set[str]:
    """Names of fields that hold something and that the shape does not read."""
    names = set() if row.keys() <= shape.keys else {name for name in row if name not in shape.keys}
    names = {name for name in names if row[name] is not None}
    for field, known in shape.turns.items():
        value = row.get(field)
        for turn in value if isinstance(value, list) else [value]:
            if isinstance(turn, Mapping) and not turn.keys() <= known:
                names |= {f"{name} of a message" for name in turn.keys() - known if turn[name] is not None}
    return names


def has(row: Row, *keys: str) -> bool:
    """Whether each of the fields is there; tables have null where there is nothing."""
    return all(row.get(key) is not None for key in keys)
