"""What asking a model held-out questions found, as plain data that goes to JSON and comes back.

"after" is the model that is evaluated, "before" the one that it was tuned from, asked in the best way that was found.
Scores are kept item by item, so that two evaluations of the same items can be compared in pairs later.
"""

from dataclasses import asdict, dataclass
from typing import Any

from pydantic import TypeAdapter

from rhapsode.evaluate.evaluation import Evaluation
from rhapsode.evaluate.forgetting import sentence
from rhapsode.evaluate.paired import Change, points
from rhapsode.evaluate.shots import Tried


@dataclass(frozen=True)
class Score:
    """A scorer's figure of a model, from 0 to 1; no interval where there are too few groups."""

    scorer: str
    value: float
    low: float | None
    high: float | None
    groups: int


@dataclass(frozen=True)
class Answered:
    """One model on all items.

    Attributes:
        prompt: how it was asked.
        shots: examples before a question, in the mean.
        tried: the ways to ask that were tried on `tried_items` training items, and the figure that each reached.
        tokens: of an answer, in the mean.
        cut, empty: answers that reached the limit of tokens, and answers without a word.
        unknown: answers that name no label that is wanted anywhere; None where no labels are wanted.
    """

    prompt: str
    shots: float
    tried: tuple[Tried, ...]
    tried_items: int
    scores: tuple[Score, ...]
    tokens: float
    cut: int
    empty: int
    unknown: int | None


@dataclass(frozen=True)
class LabelScore:
    """Of the items that want a label, how many get it."""

    label: str
    items: int
    before: int | None
    after: int


@dataclass(frozen=True)
class Confusion:
    """How often one label was wanted and another given; `given` is empty for answers that name no label."""

    wanted: str
    given: str
    before: int | None
    after: int


@dataclass(frozen=True)
class Likelihood:
    """How likely answers of a kind (chosen, rejected, good, bad) are: ln p of one of their tokens, in the mean."""

    kind: str
    answers: int
    before: float | None
    after: float


@dataclass(frozen=True)
class SideBySide:
    """An item, and what both models made of it; `gain` is that of the first scorer's score, None without a before.

    Attributes:
        wanted, unwanted: answers that people wanted, and did not; "" where there is none.
    """

    id: str
    prompt: str
    wanted: str
    before: str | None
    after: str
    gain: float | None
    unwanted: str = ""


@dataclass(frozen=True)
class ItemScores:
    """Scores of an item, in the order of the scorers; None where it is none of a scorer's business."""

    id: str
    group: str
    before: tuple[float | None, ...] | None
    after: tuple[float | None, ...]


@dataclass(frozen=True)
class TaskGate:
    """Whether answers, and what was forgotten, are what the recipe asks of a release."""

    passed: bool
    sentence: str


@dataclass(frozen=True)
class TaskEvaluation:
    """The first scorer decides. `changes`, `general` and every "before" are missing where there is nothing to compare.

    Attributes:
        changes: a line for each scorer, in the same order as scores.
        labels, confusions: where labels are wanted; confusions are the most frequent ones, of both models together.
        likelihoods: where answers of people were judged, by how likely the models find them, and the models wrote none.
        general: bits per byte on general text, the row "after" first.
        gate: None where nothing is asked of a release.
    """

    after: Answered
    before: Answered | None
    changes: tuple[Change, ...]
    labels: tuple[LabelScore, ...]
    confusions: tuple[Confusion, ...]
    examples: tuple[SideBySide, ...]
    general: Evaluation | None
    items: tuple[ItemScores, ...]
    max_tokens: int
    temperature: float
    confidence: float
    seed: int
    likelihoods: tuple[Likelihood, ...] = ()
    gate: TaskGate | None = None

    @property
    def verdict(self) -> str:
        """The whole finding in one sentence."""
        first = self.after.scores[0]
        if not self.changes:
            return f"{first.scorer} {points(first.value)} ({range_of(first)}); there is nothing to compare it with"
        said = f"{first.scorer}: {self.changes[0].verdict}"
        if self.general is not None and self.general.comparison is not None:
            said += f"; general text: {sentence(self.general.comparison)}"
        return said

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def range_of(score: Score) -> str:
    """Its interval, in points as its value is told."""
    if score.low is None or score.high is None:
        return f"no interval from {score.groups} independent items"
    return f"interval {points(score.low)} to {points(score.high)}"


def from_json(value: dict[str, Any]) -> TaskEvaluation:
    """The way back from `as_json`.

    Raises:
        pydantic.ValidationError: it is not one.
    """
    return TypeAdapter(TaskEvaluation).validate_python(value)
