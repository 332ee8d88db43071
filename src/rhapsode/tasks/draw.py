"""Chance that is the same everywhere: the seed alone decides, on every machine and for every version of Python."""

from collections.abc import Mapping, Sequence
from random import Random
from typing import TypeVar

T = TypeVar("T")


class Draw:
    """Drawing from lists, and texts from templates.

    draw.text(["Where is {thing}?", "I am waiting for {thing}."], thing="my kettle")
    """

    def __init__(self, seed: str) -> None:
        self._random = Random(seed)  # text seeds by its SHA-512; choice and randrange have kept their order since 3.2

    def one(self, items: Sequence[T]) -> T:
        return items[self._random.randrange(len(items))]

    def some(self, items: Sequence[T], count: int) -> list[T]:
        """`count` different places of the list, in the order of the draw."""
        rest = list(items)
        return [rest.pop(self._random.randrange(len(rest))) for _ in range(count)]

    def number(self, low: int, high: int) -> int:
        """From low to high, both included."""
        return low + self._random.randrange(high - low + 1)

    def is_one_in(self, count: int) -> bool:
        return self._random.randrange(count) == 0

    def text(self, templates: Sequence[str], **known: str) -> str:
        """One of the templates with what is known put in."""
        return self.one(templates).format_map(known)

    def pick(self, table: Mapping[str, T]) -> tuple[str, T]:
        """A key and its value."""
        return self.one(list(table.items()))
