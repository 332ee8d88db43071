"""The rows that a new project begins with: as many as the pack says, no two of which ask the same.

Two prompts that differ in case, spaces and punctuation alone ask the same, as they do where the split is made: held-out
rows are combinations that were not trained on.
"""

from rhapsode.corpus.examples.columns import columns_of
from rhapsode.corpus.examples.example import Example, opening, same_prompt
from rhapsode.corpus.examples.shapes.registry import shape_named
from rhapsode.tasks.draw import Draw
from rhapsode.tasks.pack import Pack, Row

MOST_DRAWS = 20
"""Of every row that is wanted: a pack that needs more of them has too little to say."""


def rows_of(pack: Pack) -> list[Row]:
    """The same rows for the same pack, whenever and wherever they are asked for."""
    draw, found = Draw(pack.name), dict[bytes, Row]()
    for _ in range(pack.num_rows * MOST_DRAWS):
        row = pack.row(draw)
        found.setdefault(same_prompt(opening(example_of(pack, row))), row)
        if len(found) == pack.num_rows:
            return list(found.values())
    raise AssertionError(f"{pack.name} has only {len(found)} different prompts")


def example_of(pack: Pack, row: Row) -> Example:
    """What is learned of a row."""
    return shape_named(pack.shape).convert(columns_of({}, pack.templates).read(row))
