"""The recipe's `data.tokens` section: how text becomes token ids."""

from pydantic import Field

from rhapsode.core.config import Bytes, Config, Count

LEARNED = ("vocab_size", "sample")
"""What shapes a vocabulary that is learned, and has no effect on one that is given."""


class TokensConfig(Config):
    """The vocabulary that is learned from the corpus, and the files that ids are written to."""

    vocab_size: Count = Field(
        default=4096,
        ge=261,
        description="Tokens in the vocabulary: 5 special ones, 256 bytes, and the word pieces learned from the text.",
    )
    sample: Bytes = Field(
        default=200_000_000,
        ge=1,
        description="The vocabulary is learned from about so much text: all documents, or a fixed sample of them.",
    )
    shard_tokens: Count = Field(
        default=100_000_000,
        ge=1,
        description="Tokens in one file. A longer document has a file of its own.",
    )
