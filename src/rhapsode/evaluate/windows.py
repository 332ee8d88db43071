"""How documents longer than the model's context are measured: windows that slide.

The first window covers the first `context` targets; each next one moves on by `stride` targets and repeats those
before them as context only. So every token is measured exactly once and, but for those near the beginning of its
document, with at least `context - stride` tokens before it. Disjoint windows would give the model less context than it
has in use; a stride of 1 would give it all, at many times the cost.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple


class Window(NamedTuple):
    """Inputs [start, start + length) of a document; the first `given` of their targets were measured before."""

    document: int
    start: int
    length: int
    given: int


def slide(targets: int, *, document: int, context: int, stride: int) -> Iterator[Window]:
    """The windows of a document with so many targets (its ids less one)."""
    measured = 0
    while measured < targets:
        end = min(measured + stride, targets) if measured else min(context, targets)
        start = max(0, end - context)
        yield Window(document, start, end - start, measured - start)
        measured = end


def batches(windows: Sequence[Window], *, batch_tokens: int) -> Iterator[list[Window]]:
    """Windows of similar length together, at most `batch_tokens` with padding; the longest first."""
    batch: list[Window] = []
    for window in sorted(windows, key=lambda w: -w.length):
        if batch and (len(batch) + 1) * batch[0].length > batch_tokens:
            yield batch
            batch = []
        batch.append(window)
    if batch:
        yield batch
