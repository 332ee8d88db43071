"""Prompts of which a share is learned beside the answers.

Who only ever learns short answers forgets how text goes on: it may end anywhere. A share of the prompts' tokens, drawn
by hash, works as a small weight of the prompt's loss does (Huerta-Enochian and Ko 2024, arXiv:2401.13586; Shi et al.
2024, arXiv:2405.14394), and tokens that are not drawn cost nothing.
"""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from rhapsode.corpus.packing import Documents, Packing


class WithPrompts:
    """Documents of which a share of what is only read is learned too; their number alone decides which tokens."""

    def __init__(self, split: Documents, share: float) -> None:
        self._split, self._share = split, share

    def document(self, index: int) -> npt.NDArray[np.unsignedinteger]:
        return self._split.document(index)

    def learned(self, index: int) -> npt.NDArray[np.bool_] | None:
        learned = self._split.learned(index)
        if learned is None or not self._share:
            return learned
        return learned | (np.random.default_rng(index).random(len(learned)) < self._share)


def count_targets(packing: Packing, split: Documents) -> Packing:
    """The same rows, with as many targets as they have where `split` says what is learned. A trunk has none."""
    count = 0
    for document, start, length, tree, branch in zip(*(column.tolist() for column in packing.columns), strict=True):
        if branch or not tree:
            learned = split.learned(document)
            count += length if learned is None else int(learned[start + 1 : start + length + 1].sum())
    return replace(packing, num_targets=count)
