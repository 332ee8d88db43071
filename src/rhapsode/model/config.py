"""The recipe's `model:` section: weights to start from, or what to train from scratch. Free of torch."""

from typing import Literal

from pydantic import Field

from rhapsode.core.config import Config, Count

FROM_SCRATCH = ("size", "family", "tied", "depth", "width", "seed")
"""What weights to start from have settled already."""


class ModelConfig(Config):
    """Either `base`, or one dial, `size`, that gives the shape; `depth` and `width` override it for those who know."""

    base: str | None = Field(
        default=None,
        min_length=1,
        description="Weights to start from: a pulled model's name, or a model directory, relative to the recipe. "
        "Its shape and its tokenizer are kept.",
    )
    size: Count | None = Field(
        default=None,
        ge=1,
        description="Number of parameters to aim at, embedding included: 5m, 60m. If absent, as many as a budget in "
        "tokens or in minutes is best spent on; with another budget 5m.",
    )
    family: Literal["qwen3", "llama"] = Field(
        default="qwen3", description="Architecture that config.json announces; qwen3 normalises queries and keys."
    )
    context: Count = Field(
        default=512, ge=16, le=32768, description="Longest sequence in training, in tokens; at most what a base reads."
    )
    tied: bool = Field(default=True, description="Whether the vocabulary projection is the embedding.")
    depth: Count | None = Field(
        default=None, ge=1, le=256, description="Number of blocks; derived from size if absent."
    )
    width: Count | None = Field(
        default=None, ge=32, multiple_of=32, description="Size of the residual stream; derived from size if absent."
    )
    seed: Count = Field(default=0, description="Seed of the first weights.")
