"""The base of every configuration: typed, frozen, and refusing what it does not know.

A configuration module imports nothing heavy, so a recipe can be read, checked and shown as a JSON Schema without torch.
Every field carries `Field(description=...)`: the description is the documentation.

    class CleanConfig(Config):
        min_chars: Count = Field(default=200, description="Shorter documents are dropped.")
        max_size: Bytes = Field(default=64 * MiB, description="Larger files are skipped.")
        dropout: Share = Field(default=0.05, description="...")
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError

from rhapsode.core import units


class Config(BaseModel):
    """A part of a recipe. Types are strict: "3" is not a number and 1 is not true; defaults are checked too."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_default=True, allow_inf_nan=False)


def _reader(parse: Callable[[object], object]) -> BeforeValidator:
    """Let `parse` read the value, and keep its own words in the error."""

    def read(value: object) -> object:
        try:
            return parse(value)
        except ValueError as error:
            raise PydanticCustomError("unit", "{message}", {"message": str(error)}) from None

    return BeforeValidator(read)


@dataclass(frozen=True, eq=False)
class _NumberOrText:
    """Tells the JSON Schema that a number may also be text with a unit, so that editors accept and suggest both."""

    kind: str
    suffixes: Sequence[str]
    examples: Sequence[object]
    limits: Mapping[str, int]

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        folded = "|".join("".join(f"[{c.upper()}{c.lower()}]" if c.isalpha() else c for c in s) for s in self.suffixes)
        return {
            **self.limits,
            **handler(core),
            "type": [self.kind, "string"],
            "pattern": rf"^\s*[0-9][0-9_]*(\.[0-9]*)?([eE][+-]?[0-9]+)?\s*({folded})?\s*$",
            "examples": list(self.examples),
        }


Count = Annotated[
    int,
    _reader(units.parse_count),
    _NumberOrText("integer", list(units.COUNTS.units), units.COUNTS.examples, {"minimum": 0}),
]
"""A whole number from 0 up: 5000, "64k", "5m"."""

Bytes = Annotated[
    int,
    _reader(units.parse_bytes),
    _NumberOrText("integer", list(units.SIZES.units), units.SIZES.examples, {"minimum": 0}),
]
"""A size in bytes: 4096, "10 MB", "64 KiB"."""

Share = Annotated[
    float,
    _reader(units.parse_share),
    _NumberOrText("number", ["%"], units.SHARES, {"minimum": 0, "maximum": 1}),
]
"""A part of a whole: 0.05 or "5%"."""
