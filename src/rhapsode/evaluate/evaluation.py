"""What an evaluation found, as plain data that goes to JSON and comes back.

Every number has its interval, and the numbers behind it are kept document by document, so that two evaluations of the
same documents can be compared in pairs later.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from rhapsode.core.errors import RhapsodeError
from rhapsode.evaluate.arrays import Floats
from rhapsode.evaluate.interval import Draws, ratio


@dataclass(frozen=True)
class Row:
    """One model or baseline. `low` and `high` are None when there are too few documents for an interval."""

    name: str
    bits_per_byte: float
    low: float | None
    high: float | None
    bytes: int
    documents: int
    seconds: float
    note: str


@dataclass(frozen=True)
class Comparison:
    """How the model stands to another on the same documents.

    Attributes:
        other: the name of the other.
        saving, saving_low, saving_high: the part by which the model needs fewer bits; negative where it needs more.
        difference, difference_low, difference_high: bits per byte of the model less those of the other.
    """

    other: str
    saving: float
    saving_low: float | None
    saving_high: float | None
    difference: float
    difference_low: float | None
    difference_high: float | None


@dataclass(frozen=True)
class Gate:
    """What the recipe asks of a release, and whether the model reached it."""

    below_best_baseline: float
    passed: bool
    sentence: str


@dataclass(frozen=True)
class HeldOutDocument:
    """The model's bits, and those of each baseline by name."""

    id: str
    bytes: int
    bits: float
    baselines: dict[str, float]


@dataclass(frozen=True)
class Evaluation:
    """The model is the first row; `comparison` is with the best baseline.

    Attributes:
        context: most tokens that the model saw at once.
        stride: tokens by which its window moved over longer documents.
        precision: the type it computed in.
    """

    rows: tuple[Row, ...]
    comparison: Comparison | None
    gate: Gate | None
    documents: tuple[HeldOutDocument, ...]
    context: int
    stride: int
    precision: str
    confidence: float
    resamples: int
    seed: int

    @property
    def model(self) -> Row:
        return self.rows[0]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def from_json(value: dict[str, Any]) -> Evaluation:
    """The way back from `as_json`.

    Raises:
        pydantic.ValidationError: it is not an evaluation.
    """
    return TypeAdapter(Evaluation).validate_python(value)


def compare(one: Evaluation, other: Evaluation) -> Comparison:
    """The model of one evaluation against that of another, in pairs.

    Raises:
        RhapsodeError: they measured different documents.
    """
    if [(d.id, d.bytes) for d in one.documents] != [(d.id, d.bytes) for d in other.documents]:
        raise RhapsodeError(
            "the two evaluations measured different documents, so they cannot be compared in pairs",
            "evaluate both models on the same corpus, with the same evaluate.documents and evaluate.seed",
        )
    mine = [d.bits for d in one.documents]
    theirs = [d.bits for d in other.documents]
    sizes = [d.bytes for d in one.documents]
    return paired(
        other.model.name,
        bits=np.array(mine),
        other_bits=np.array(theirs),
        sizes=np.array(sizes, dtype=float),
        draws=Draws(one.confidence, one.resamples, one.seed),
    )


def paired(other: str, *, bits: Floats, other_bits: Floats, sizes: Floats, draws: Draws) -> Comparison:
    """Compare bits [documents] of a model with another's on the same documents of these sizes in bytes."""
    part = ratio(bits, of=other_bits, draws=draws)
    low, high = (None if end is None else 1 - end for end in (part.high, part.low))
    return Comparison(other, 1 - part.value, low, high, *ratio(bits - other_bits, of=sizes, draws=draws))
