"""The recipe's `evaluate:` section. Free of torch."""

from typing import Literal, Self

from pydantic import Field, model_validator

from rhapsode.core.config import Config, Count, Share

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
    samples: SamplesConfig = Field(default=SamplesConfig(), description="Completions of held-out prompts.")
    gate: GateConfig = Field(default=GateConfig(), description="What a release must pass.")

    @model_validator(mode="after")
    def _baselines_make_sense(self) -> Self:
        if len(set(self.baselines)) < len(self.baselines):
            raise ValueError("baselines names one twice")
        if self.gate.below_best_baseline is not None and not self.baselines:
            raise ValueError("gate.below_best_baseline needs a baseline: baselines is empty")
        return self
