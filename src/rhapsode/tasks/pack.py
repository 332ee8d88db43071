"""What a task pack says of its task. A pack is one such value; the recipe and the pages are written from it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from rhapsode.corpus.examples.config import ShapeName
from rhapsode.tasks.draw import Draw

Row = Mapping[str, Any]
Review = Literal["every answer", "a sample"]


@dataclass(frozen=True)
class Pack:
    """A task: what for, on what data, how it is judged, what can go wrong, and who looks at what comes out.

    Attributes:
        name: as `rhapsode new` takes it.
        line: what a model for it does; one line of the list.
        purpose: a sentence for the recipe and the model card.
        shape: how its rows are written.
        scorers: how answers are judged, the first is the headline.
        max_tokens: the longest answer, in tokens.
        context: room for the longest row, in tokens.
        risk: what goes wrong if answers are trusted as they are.
        review: what a person looks at before it takes effect; `checks` says what for.
        prompts: what the model is asked while it trains, for people to look at.
        own_rows: where rows of the user's own usually come from.
        row: draws a row. Rows whose prompts were there before are drawn again.
        templates: for rows of plain columns, what is written of them.
        languages: language tags of its texts.
        num_rows: how many are drawn.
        budget: how long to train on them.
    """

    name: str
    line: str
    purpose: str
    shape: ShapeName
    scorers: tuple[str, ...]
    max_tokens: int
    context: int
    risk: str
    review: Review
    checks: str
    prompts: tuple[str, ...]
    own_rows: str
    row: Callable[[Draw], Row]
    templates: Mapping[str, str] = field(default_factory=dict)
    languages: tuple[str, ...] = ("en",)
    num_rows: int = 400
    budget: str = "3 epochs"

    @property
    def is_conversation(self) -> bool:
        """Whether the model learns to answer in a chat, rather than to go on with a text."""
        return self.shape in ("openai", "alpaca", "sharegpt", "dialogue")
