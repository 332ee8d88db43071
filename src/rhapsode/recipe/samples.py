"""Rows of training data as the model will see them: pieces of text, their tokens, and where there is loss."""

from typing import NamedTuple

from rhapsode.corpus.packing import NO_TARGET, Packing, batch
from rhapsode.corpus.tokens import TokenSplit
from rhapsode.text.tokenizer import Tokenizer

SHOWN_TOKENS = 48


class SampleToken(NamedTuple):
    """`text` as it decodes alone, special tokens by name; `is_trained`: whether the model must predict it."""

    id: int
    text: str
    is_trained: bool


class Sample(NamedTuple):
    """The beginning of one packed row."""

    row: int
    sources: list[str]
    trained: int
    padding: int
    tokens: list[SampleToken]


def render_samples(
    split: TokenSplit, packing: Packing, tokenizer: Tokenizer, *, count: int, begin: int | None
) -> list[Sample]:
    """`count` rows, evenly spread."""
    step = max(1, packing.num_rows // count)
    return [_render(split, packing, tokenizer, row, begin=begin) for row in range(0, packing.num_rows, step)][:count]


def _render(split: TokenSplit, packing: Packing, tokenizer: Tokenizer, row: int, *, begin: int | None) -> Sample:
    rows = batch(split, packing, [row], pad=tokenizer.pad, begin=begin)
    ids, targets = rows.ids[0], rows.targets[0]
    apart = rows.documents[0] * (rows.branches[0].max() + 1) + rows.branches[0]
    tokens = []
    for place, token in enumerate(ids[:SHOWN_TOKENS].tolist()):
        is_trained = place > 0 and targets[place - 1] != NO_TARGET and apart[place] == apart[place - 1]
        tokens.append(SampleToken(token, tokenizer.show(token), bool(is_trained)))
    sources = [split.document_source(piece.document) for piece in packing.row(row)]
    return Sample(row, sources, int((targets != NO_TARGET).sum()), int((documents == 0).sum()), tokens)
