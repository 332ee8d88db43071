"""Every pack, and its rows as examples, made once."""

from functools import cache

import pytest

from rhapsode.corpus.examples.example import Example
from rhapsode.tasks.pack import Pack, Row
from rhapsode.tasks.registry import PACKS, pack_named
from rhapsode.tasks.rows import example_of, rows_of


@cache
def rows(name: str) -> list[Row]:
    return rows_of(pack_named(name))


@cache
def examples(name: str) -> list[Example]:
    return [example_of(pack_named(name), row) for row in rows(name)]


@pytest.fixture(params=PACKS)
def pack(request: pytest.FixtureRequest) -> Pack:
    return pack_named(request.param)
