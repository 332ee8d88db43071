"""The recipe's `evaluate:` section. Free of torch."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from rhapsode.core.config import Config, Count, Share
from rhapsode.core.errors import RhapsodeError
from rhapsode.evaluate.scorers.registry import LIKELIHOODS, SCORERS, known

BaselineName = Literal["base", "xz", "kneser-ney"]


class SamplesConfig(Config):
    """Held-out prompts that the model completes, shown beside what really followed."""

    count: Count = Field(default=6, description="Number of prompts; 0 shows none.")
    max_tokens: Count = Field(default=120, ge=1, description="Longest completion, in tokens.")
    temperature: float = Field(default=0.0, ge=0, description="0 always takes the likeliest token.")
    opening_words: Count = Field(
        default=40, ge=1, description="Words of a held-out document's opening that make a prompt, where it is not code."
    )


class GateConfig(Config):
    """What a model must reach to be released."""

    below_best_baseline: Share | None = Field(
        default=None, description="Least part by which its bits per byte are below the best baseline's, such as 12%."
    )
    task: Literal["better"] | Annotated[float, Field(ge=0, le=100)] | None = Field(
        default=None,
        description="What its answers must be beside those of the model before, by the scorer that decides: better, "
        "or better by at least so many points of 100.",
    )
    general: Share | None = Field(
        default=None, description="Most part by which it may need more bits for general text than before, such as 2%."
    )


class GeneralConfig(Config):
    """Text that has nothing to do with the task, on which a tuned model shows what it forgot."""

    documents: Count = Field(
        default=32,
        description="Documents of English prose and Python from Python's own library, drawn by hash; 0 measures none.",
    )
    characters: Count = Field(default=2000, ge=200, description="Longest piece of a document.")


ASKING = ("max_tokens", "temperature", "shots", "shots_items")
"""What only concerns answers that the model writes."""


class TaskEvaluationConfig(Config):
    """What the model's answers to held-out examples are worth, beside those of the model that it started from."""

    scorers: tuple[str, ...] = Field(
        min_length=1,
        strict=False,
        description="What judges answers; the first decides the verdict. There are "
        f"{', '.join(SCORERS)}; recall is written recall:LABEL. Of preferences and feedback, how likely the model "
        f"finds answers of people can be judged instead: {', '.join(LIKELIHOODS)}.",
    )
    max_tokens: Count = Field(default=128, ge=1, description="Longest answer, in tokens; what is longer is cut.")
    temperature: float = Field(default=0.0, ge=0, description="0 always takes the likeliest token.")
    items: Count | None = Field(
        default=None, ge=1, description="Ask at most so many held-out examples, drawn by hash; all if absent."
    )
    shots: tuple[Count, ...] = Field(
        default=(0, 1, 3, 5),
        min_length=1,
        strict=False,
        description="How many training examples the untuned model may see before a question; the best is taken.",
    )
    shots_items: Count = Field(
        default=60,
        ge=1,
        description="Training examples on which the best number of shots is found; never held-out ones.",
    )
    examples: Count = Field(
        default=6, description="Answers shown side by side: the largest gains and the largest losses; 0 shows none."
    )
    general: GeneralConfig = Field(
        default=GeneralConfig(), description="Whether the model forgot what it could before."
    )

    @property
    def judges(self) -> Literal["answers", "preferences", "feedback"]:
        """What all of the scorers judge."""
        return known(self.scorers[0]).judges

    @property
    def compares(self) -> str | None:
        """The first scorer that has nothing to say without the model before, if one has."""
        return next((name for name in self.scorers if known(name).where == "reward"), None)

    @model_validator(mode="after")
    def _scorers_make_sense(self) -> Self:
        for name in self.scorers:
            try:
                known(name)
            except RhapsodeError as error:
                raise ValueError(f"{error.message}; {error.hint}") from None
        if self.scorers[0].startswith("recall:"):
            raise ValueError("recall of one label cannot decide: a model that says nothing else has all of it")
        if len({known(name).judges for name in self.scorers}) > 1:
            raise ValueError("answers of the model, and how likely it finds those of people, are judged in runs apart")
        kinds = [known(name) for name in self.scorers]
        if any(kind.is_of_labels for kind in kinds) and any(kind.is_of_calls for kind in kinds):
            raise ValueError("labels and tool calls are judged apart; keep scorers of one of the two")
        for name in ("scorers", "shots"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise ValueError(f"{name} names one twice")
        return self


class EvaluateConfig(Config):
    """Bits per byte on held-out documents, beside baselines on the same documents."""

    baselines: tuple[BaselineName, ...] = Field(
        default=("base", "xz", "kneser-ney"),
        strict=False,
        description="Yardsticks: the model that training started from, where there is one, the compressor xz -9e, and "
        "a 5-gram model over the same tokens.",
    )
    documents: Count | None = Field(
        default=None, ge=1, description="Measure at most so many held-out documents, drawn by hash; all if absent."
    )
    baseline_tokens: Count = Field(
        default=20_000_000,
        ge=1000,
        description="Most training tokens that kneser-ney counts; about 100 bytes of memory each.",
    )
    confidence: Share = Field(default=0.95, gt=0, lt=1, description="Share of the intervals that hold the true value.")
    resamples: Count = Field(default=2000, ge=100, description="Draws of held-out documents behind an interval.")
    seed: Count = Field(default=0, description="Seed of every draw: documents, intervals, prompts.")
    task: TaskEvaluationConfig | None = Field(
        default=None, description="Answers to held-out examples and what they are worth; absent, none are asked for."
    )
    samples: SamplesConfig = Field(default=SamplesConfig(), description="Completions of held-out prompts.")
    gate: GateConfig = Field(default=GateConfig(), description="What a release must pass.")

    @model_validator(mode="after")
    def _baselines_make_sense(self) -> Self:
        if len(set(self.baselines)) < len(self.baselines):
            raise ValueError("baselines names one twice")
        if self.gate.below_best_baseline is not None and not self.baselines:
            raise ValueError("gate.below_best_baseline needs a baseline: baselines is empty")
        for name in ("task", "general"):
            if getattr(self.gate, name) is None:
                continue
            if self.task is None or (name == "general" and not self.task.general.documents):
                what = "evaluate.task" if self.task is None else "documents: evaluate.task.general.documents is 0"
                raise ValueError(f"gate.{name} needs {what}")
            if "base" not in self.baselines:
                raise ValueError(f"gate.{name} compares with the model before: baselines must name base")
        return self
