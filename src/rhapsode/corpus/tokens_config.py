"""The recipe's `data.tokens` section: how text becomes token ids."""

from typing import Annotated

from pydantic import Field

from rhapsode.core.config import Bytes, Config, Count

LEARNED = ("vocab_size", "sample")
"""What shapes a vocabulary that is learned, and has no effect on one that is given."""
NEW = ("new_pieces", "new_special")
"""What extends a vocabulary that is given."""
MOST_NEW = 1 << 17
Text = Annotated[str, Field(min_length=1, max_length=256)]


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
    new_pieces: Annotated[Count, Field(le=MOST_NEW)] | list[Text] = Field(
        default=0,
        description="Tokens that the base's vocabulary gets besides: so many, learned from the text for training, or "
        "these words; one that stands behind a space begins with it.",
    )
    new_special: list[Text] = Field(
        default=[], description="Special tokens that the base's vocabulary gets besides, such as '<|note|>'."
    )
    shard_tokens: Count = Field(
        default=100_000_000,
        ge=1,
        description="Tokens in one file. A longer document has a file of its own.",
    )

    @property
    def is_extending(self) -> bool:
        """Whether the vocabulary that is given gets more tokens."""
        return bool(self.new_pieces or self.new_special)

    @property
    def without_effect(self) -> tuple[str, ...]:
        """What of `LEARNED` does nothing where a vocabulary is given."""
        learns = isinstance(self.new_pieces, int) and self.new_pieces > 0
        return tuple(name for name in LEARNED if not (learns and name == "sample"))

    @property
    def as_given(self) -> "TokensConfig":
        """The same for the vocabulary as it is given."""
        return self.model_copy(update={"new_pieces": 0, "new_special": []})
