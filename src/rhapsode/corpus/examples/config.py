"""The recipe's `data.examples`: files of examples to tune on."""

from typing import Literal

from pydantic import Field

from rhapsode.core.config import Config

ShapeName = Literal["auto", "openai", "completion", "sharegpt", "dialogue", "alpaca", "preference", "feedback", "text"]


class ExampleSource(Config):
    """A file whose rows are examples."""

    path: str = Field(
        min_length=1,
        description="A .jsonl, .json, .csv, .tsv or .parquet file (.gz, .zst too), relative to the recipe; ${NAME} is "
        "the environment variable NAME.",
    )
    name: str = Field(default="", description="A short name; it goes in front of every example's source.")
    licence: str = Field(default="unknown", description="The licence of its texts.")
    shape: ShapeName = Field(default="auto", description="How its rows are written. auto: as the first ones look.")
    fields: dict[str, str] = Field(
        default={}, description="Names of the file's fields -> names that the shape has for them: {question: prompt}."
    )
    templates: dict[str, str] = Field(
        default={},
        description="Names that the shape has -> text around columns of the file, for files of plain columns: "
        "{prompt: 'Which topic? {text}', completion: '{label}'}.",
    )
    split: Literal["auto", "train", "validation"] = Field(
        default="auto",
        description="Which side its examples are on. auto: a hash of the prompt decides; equal prompts stay together.",
    )
    drop_faults: bool = Field(
        default=False,
        description="Leave rows with faults out, each written down with its reason; else one refuses all.",
    )
