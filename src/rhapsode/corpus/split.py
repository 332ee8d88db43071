"""What is held out. A keyed hash of its group decides about a document, before anything is sampled.

The side of a group depends on nothing but its name and the seed: adding documents moves none. The one exception makes
sure that there is something on both sides: when the hash leaves a side empty, the nearest group crosses over.
"""

import hashlib
from typing import Literal

import numpy as np
import numpy.typing as npt

from rhapsode.corpus.config import SplitConfig

Side = Literal["train", "validation"]
SIDES: tuple[Side, Side] = ("train", "validation")

Positions = npt.NDArray[np.uint64]

_RANGE = 2**64


def group_of(config: SplitConfig, *, place: str, label: str, text_digest: bytes) -> bytes:
    """The group of a document.

    Args:
        config: which kind of group.
        place: its file, relative to its source, with "/" between the parts.
        label: the label of its source.
        text_digest: the identity of its text; a document that is a group of its own is known by it, so that renaming
            a file does not move it.
    """
    if config.group == "document":
        return text_digest
    folder = place.partition("/")[0] if config.group == "folder" else place
    return f"{label}/{folder}".encode()


def position(group: bytes, *, seed: int) -> int:
    """A number in 0..2^64 that only the group and the seed decide."""
    key = str(seed).encode()[:64]
    return int.from_bytes(hashlib.blake2b(group, key=key, digest_size=8).digest())


def side_of(position_: int, *, validation: float) -> Side:
    return "validation" if position_ < validation * _RANGE else "train"


def crossing(train: Positions, validation: Positions, *, share: float) -> int | None:
    """The group that must cross over so that neither side is empty, None when none has to or none can.

    It is the one nearest to the border: the smallest of train, or the largest of validation.
    """
    if share == 0 or (len(train) and len(validation)) or len(np.unique(np.concatenate([train, validation]))) < 2:
        return None
    return int(train.min()) if len(train) else int(validation.max())
