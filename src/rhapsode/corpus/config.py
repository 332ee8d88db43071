"""The recipe's `data:` section: where text comes from and what is done to it before training."""

from collections.abc import Sequence
from typing import Literal, Self

from pydantic import Field, model_validator

from rhapsode.core.config import Bytes, Config, Count, Share
from rhapsode.core.units import GiB, MiB
from rhapsode.corpus.examples.config import ExampleSource
from rhapsode.corpus.tokens_config import TokensConfig


class Source(Config):
    """A folder or a file to read."""

    path: str = Field(
        min_length=1,
        description="A folder or a file, relative to the recipe. ${stdlib} is Python's standard library, "
        "${NAME} the environment variable NAME.",
    )
    name: str = Field(default="", description="A short name; it goes in front of every document's source.")
    licence: str = Field(default="unknown", description="The licence of its texts; a row's own `licence` goes first.")
    include: list[str] = Field(
        default=[], description="Only files that match one of these globs, such as '*.md' or 'docs/**'. Empty: all."
    )
    exclude: list[str] = Field(default=[], description="No file that matches one of these globs.")
    text_field: str = Field(
        default="text", min_length=1, description="The field that holds the text in json, jsonl, csv and parquet."
    )
    kind: Literal["auto", "prose", "code"] = Field(
        default="auto", description="What its texts are. auto: by the suffix of the file, or of a row's `path`."
    )


class ProseRules(Config):
    """Thresholds for prose. null turns a rule off."""

    min_alphanumeric_share: Share | None = Field(
        default=0.4, description="Least share of letters and digits among the characters that are not spaces."
    )
    max_repeated_line_share: Share | None = Field(
        default=0.5, description="Largest share of the text in lines that occurred before (of 10 characters or more)."
    )
    max_repeated_ngram_share: Share | None = Field(
        default=0.3, description="Largest share of 24-character n-grams, cut side by side, that occurred before."
    )
    max_lorem_ipsum_share: Share | None = Field(
        default=0.2, description="Largest share of the text in lines of placeholder text (lorem ipsum)."
    )


class CodeRules(Config):
    """Thresholds for source code. null turns a rule off."""

    max_generated_notices: Count | None = Field(
        default=0, description="How many notices that the file is generated may stand at its top."
    )
    max_line_chars: Count | None = Field(default=2000, description="Longest line; minified code has longer ones.")
    max_mean_line_chars: Count | None = Field(default=120, description="Longest mean line; minified code has more.")
    min_alphanumeric_share: Share | None = Field(
        default=0.4, description="Least share of letters and digits among the characters that are not spaces."
    )
    max_data_line_share: Share | None = Field(
        default=0.6, description="Largest share of lines that hold only numbers, escapes or very short strings."
    )
    max_repeated_line_share: Share | None = Field(
        default=0.8, description="Largest share of the text in lines that occurred before (of 10 characters or more)."
    )
    max_repeated_ngram_share: Share | None = Field(
        default=0.5, description="Largest share of 24-character n-grams, cut side by side, that occurred before."
    )


class CleanConfig(Config):
    """Repair, and the first quality rules. null turns a rule off."""

    repair_unicode: bool = Field(
        default=True,
        description="Repair mojibake, control characters and line ends in prose, and bring it to NFC. "
        "Code only loses its byte order mark and its carriage returns.",
    )
    min_chars: Count | None = Field(default=32, description="Shortest document, in characters.")
    max_chars: Count | None = Field(default=10_000_000, description="Longest document, in characters.")
    max_replacement_share: Share | None = Field(
        default=0.01, description="Largest share of U+FFFD, which stands where bytes could not be read."
    )
    max_control_share: Share | None = Field(default=0.005, description="Largest share of control characters.")
    max_encoded_share: Share | None = Field(
        default=0.3, description="Largest share of the text in unbroken runs of 200 ASCII characters (base64, keys)."
    )
    prose: ProseRules = Field(default=ProseRules(), description="Rules for prose.")
    code: CodeRules = Field(default=CodeRules(), description="Rules for source code.")


TEXT_GROUPS = ("document", "folder", "source_file")


class SplitConfig(Config):
    """What is held out to measure on. A group is never cut in two."""

    validation: Share = Field(default=0.05, lt=1, description="Share of the groups to hold out. 0: none.")
    group: Literal["document", "folder", "source_file"] | str = Field(
        default="source_file",
        min_length=1,
        description="What stays together. Of text: each document alone, the documents of a file, or of a top-level "
        "folder. Of examples, which stay with those that open alike: instead, a field of their rows, equal values of "
        "which stay together: patient, customer.",
    )
    seed: int = Field(default=0, description="Another seed holds out other groups.")

    @property
    def field(self) -> str | None:
        """The field of examples that says what stays together; None where nobody named one."""
        return None if self.group in TEXT_GROUPS else self.group


class DataConfig(Config):
    """From sources to a clean, deduplicated and split corpus, and its tokens."""

    sources: list[Source] = Field(default=[], description="Folders and files of text to read.")
    examples: list[ExampleSource] = Field(
        default=[], description="Files of examples to tune on: conversations, prompts with answers, preferences."
    )
    clean: CleanConfig = Field(default=CleanConfig(), description="Repair and quality rules.")
    deduplicate: Literal["exact", "off"] = Field(
        default="exact", description="exact: of texts that differ at most in spaces, the first is kept."
    )
    split: SplitConfig = Field(default=SplitConfig(), description="What is held out.")
    max_document_bytes: Bytes = Field(
        default=64 * MiB, gt=0, le=GiB, description="Larger documents are dropped unread, so that memory stays bounded."
    )
    overlap: Literal["refuse", "drop"] = Field(
        default="refuse",
        description="What becomes of examples in files for training whose prompt, or group, or nearly all of which "
        "stands in one for validation too.",
    )
    alike: Share | None = Field(
        default=0.8,
        gt=0,
        description="From how alike on two examples are nearly the same: the words that both have, as a share of those "
        "that either has, rare ones weighing more. null: only equal prompts count.",
    )
    too_long: Literal["refuse", "drop"] = Field(
        default="refuse", description="What becomes of examples that do not fit model.context. None is ever cut."
    )
    tokens: TokensConfig = Field(default=TokensConfig(), description="The tokenizer and the token shards.")

    @property
    def given(self) -> Sequence[Source | ExampleSource]:
        """What there is to read."""
        return self.sources or self.examples

    @model_validator(mode="after")
    def _text_or_examples(self) -> Self:
        if bool(self.sources) == bool(self.examples):
            raise ValueError("give sources, which are text, or examples to tune on: one of the two")
        if self.sources and self.split.field is not None:
            raise ValueError(f"split.group: text stays together by {', '.join(TEXT_GROUPS)}, not by {self.split.field}")
        return self
