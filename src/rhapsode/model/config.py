"""The recipe's `model:` section: what to train from scratch. Free of torch."""

from typing import Literal

from pydantic import Field

from rhapsode.core.config import Config, Count


class ModelConfig(Config):
    """One dial, `size`, gives the shape; `depth` and `width` override it for those who know better."""

    size: Count = Field(default=5_000_000, description="Number of parameters to aim at, embedding included: 5m, 60m.")
    family: Literal["qwen3", "llama"] = Field(
        default="qwen3", description="Architecture that config.json announces; qwen3 normalises queries and keys."
    )
    context: Count = Field(default=512, ge=16, le=32768, description="Longest sequence the model sees, in tokens.")
    tied: bool = Field(default=True, description="Whether the vocabulary projection is the embedding.")
    depth: Count | None = Field(
        default=None, ge=1, le=256, description="Number of blocks; derived from size if absent."
    )
    width: Count | None = Field(
        default=None, ge=32, multiple_of=32, description="Size of the residual stream; derived from size if absent."
    )
    seed: Count = Field(default=0, description="Seed of the first weights.")
