"""The held-out documents that are measured, and their text."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from rhapsode.core.errors import RhapsodeError
from rhapsode.corpus.documents import iter_documents
from rhapsode.corpus.tokens import TokenSplit


def draw(split: TokenSplit, *, most: int | None, seed: int) -> list[int]:
    """Indices of at most `most` documents in ascending order.

    A document's rank in the draw depends on the seed and its own id alone, so documents that come or go change
    little else.

    Raises:
        RhapsodeError: there is no document.
    """
    if not any(map(split.is_wanted, range(split.num_documents))):
        raise RhapsodeError(
            "there are no held-out documents to measure",
            "give the recipe's data more than one source file, or raise data.split.validation",
        )
    wanted = [i for i in shuffled(split, seed=seed) if split.is_wanted(i)]
    return sorted(wanted[:most])


def shuffled(split: TokenSplit, *, seed: int) -> list[int]:
    """All document indices, ordered by a hash of seed and document id."""
    return sorted(range(split.num_documents), key=lambda i: rank(split.document_id(i), seed=seed))


def rank(name: str, *, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{name}".encode()).digest()


def texts(corpus: Path, split: TokenSplit, documents: Sequence[int]) -> list[bytes]:
    """The UTF-8 text of documents of the validation split, in the given order.

    Raises:
        RhapsodeError: the tokens were made from another corpus.
    """
    wanted = {split.document_id(i): i for i in documents}
    found: dict[int, bytes] = {}
    for document in iter_documents(corpus, split="validation"):
        if document.id in wanted:
            found[wanted[document.id]] = document.text.encode("utf-8", "surrogatepass")
    for i in documents:
        if i not in found or len(found[i]) != split.document_bytes(i):
            raise RhapsodeError(
                f"held-out document {split.document_id(i)} of the tokens is not in {corpus}",
                "the tokens were made from another corpus; run rhapsode prepare again",
            )
    return [found[i] for i in documents]
