"""For every answer that people judged, an answer to something else: what its prompt does not ask for.

How likely a policy finds such answers, beside how likely its reference does, says how far the two have come apart (KTO,
Ethayarajh et al. 2024, arXiv:2402.01306, section 4.1). Which answer that is follows from the examples alone: they stand
in a ring by a hash of their names, and each takes the answer of the next one that asks for something else.
"""

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

from rhapsode.corpus.documents import Document
from rhapsode.corpus.examples.example import Feedback, Messages, example_of, opening

MOST_STEPS = 64
"""Neighbours that are looked at: where they all ask the same, nearly everything does, and the next one has to do."""


class _Place(NamedTuple):
    rank: bytes
    name: str
    asked: str
    answer: Messages


def mismatched(documents: Iterable[Document]) -> dict[str, Messages]:
    """By the name of each example of feedback the answer that it borrows."""
    ring = sorted(map(_place, documents), key=lambda place: place[:2])
    found = {}
    for at, own in enumerate(ring):
        following = [ring[(at + step) % len(ring)] for step in range(1, min(MOST_STEPS, len(ring)) + 1)]
        found[own.name] = next((one for one in following if one.asked != own.asked), following[0]).answer
    return found


def _place(document: Document) -> _Place:
    example = example_of(document)
    assert isinstance(example, Feedback), "only feedback is measured beside what it did not ask for"
    rank = hashlib.blake2b(document.id.encode(), digest_size=8).digest()
    return _Place(rank, document.id, opening(example), example.completion)
