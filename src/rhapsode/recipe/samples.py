"""Rows of training data as the model will see them: their sequences, token by token, and where there is loss."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from rhapsode.corpus.examples.heads import Purpose
from rhapsode.corpus.packing import NO_TARGET, Ints, Packing, Rows, batch
from rhapsode.corpus.prompts import WithPrompts
from rhapsode.corpus.tokens import MISMATCHED, TokenSplit
from rhapsode.text.tokenizer import Tokenizer

SHOWN_TOKENS = 48
SHOWN_OF_EXAMPLE = 320
"""An example should be seen whole."""
SHOWN_OF_TRUNK = (64, 32)
"""Its first and last tokens: what many examples begin with is read by all of them, and nothing of it is learned."""


class SampleToken(NamedTuple):
    """`text` as it decodes alone, special tokens by name; `is_trained`: whether the model must predict it.

    Where tokens are not shown, one with the id -1 says how many.
    """

    id: int
    text: str
    is_trained: bool


class Sample(NamedTuple):
    """The beginning of one packed row, sequence by sequence."""

    row: int
    sources: list[str]
    trained: int
    padding: int
    sequences: list[list[SampleToken]]


def render_samples(
    split: TokenSplit,
    packing: Packing,
    tokenizer: Tokenizer,
    *,
    count: int,
    begin: int | None,
    prompts: float,
    purpose: Purpose | None = None,
) -> list[Sample]:
    """`count` rows, evenly spread.

    Args:
        prompts: the share of them that is learned.
        purpose: of a model that does not write: what its targets are called.
    """
    shown = range(0, packing.num_rows, max(1, packing.num_rows // count))[:count]
    learned, name = WithPrompts(split, prompts), tokenizer.show if purpose is None else purpose.shown
    chosen = ((row, batch(learned, packing, [row], pad=tokenizer.pad, begin=begin)) for row in shown)
    return [_render(row, rows, split, packing, tokenizer, name=name) for row, rows in chosen]


def _render(
    row: int, rows: Rows, split: TokenSplit, packing: Packing, tokenizer: Tokenizer, *, name: Callable[[int], str]
) -> Sample:
    if MISMATCHED in split.roles:
        rows.targets[rows.branches % 2 == 0] = NO_TARGET  # they are only looked at
    shown = SHOWN_OF_EXAMPLE if split.is_learned_in_part else SHOWN_TOKENS
    spans = list(_spans(rows, most=shown))
    sequences = [_tokens(rows, span, tokenizer, name) for span in spans]
    sequences = [_ends(s) if _is_trunk(rows, at.start) else s for s, at in zip(sequences, spans, strict=True)]
    sources = [split.document_source(piece.document) for piece in packing.row(row)]
    padding = int((rows.documents == 0).sum())
    return Sample(row, sources, int((rows.targets != NO_TARGET).sum()), padding, sequences)


def _spans(rows: Rows, *, most: int) -> Iterator[slice]:
    """From where to where the row's sequences go, until so many tokens are shown."""
    apart: Ints = rows.documents[0] * (rows.branches[0].max() + 1) + rows.branches[0]
    bounds = [0, *(np.flatnonzero(np.diff(apart)) + 1).tolist(), len(apart)]
    for start, stop in pairwise(bounds):
        if rows.documents[0, start] and most > 0:
            is_trunk = _is_trunk(rows, start)
            yield slice(start, stop if is_trunk else min(stop, start + most))
            most -= min(stop - start, sum(SHOWN_OF_TRUNK)) if is_trunk else stop - start


def _is_trunk(rows: Rows, place: int) -> bool:
    """Whether several sequences begin with what stands there."""
    own = rows.documents[0] == rows.documents[0, place]
    return bool(rows.branches[0, place] == 0 and rows.branches[0, own].any())


def _ends(tokens: list[SampleToken]) -> list[SampleToken]:
    """The beginning and the end of a trunk, if it is long."""
    first, last = SHOWN_OF_TRUNK
    left_out = len(tokens) - first - last
    if left_out <= 0:
        return tokens
    return [*tokens[:first], SampleToken(-1, f" [{left_out} tokens more] ", is_trained=False), *tokens[-last:]]


def _tokens(rows: Rows, span: slice, tokenizer: Tokenizer, name: Callable[[int], str]) -> list[SampleToken]:
    """The first is only read; behind the last input stands its target, which is no input any more."""
    ids, targets = rows.ids[0, span].tolist(), rows.targets[0, span].tolist()
    found = [SampleToken(ids[0], tokenizer.show(ids[0]), is_trained=False)]
    for token, target in zip([*ids[1:], targets[-1]], targets, strict=True):
        if token != NO_TARGET:
            text = tokenizer.show(token) if target == NO_TARGET else name(token)
            found.append(SampleToken(token, text, is_trained=target != NO_TARGET))
    return found
