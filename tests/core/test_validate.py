from typing import Annotated, Literal

import pytest
from pydantic import Field, model_validator

from rhapsode.core.config import Bytes, Config, Count
from rhapsode.core.errors import RecipeError
from rhapsode.core.validate import fields_at, validate
from rhapsode.core.yaml import read_yaml


class Scratch(Config):
    kind: Literal["scratch"] = Field(description="From nothing.")
    size: Count = Field(default=1000, description="Parameters.")


class Existing(Config):
    kind: Literal["existing"] = Field(description="From weights.")
    path: str = Field(description="Where they are.")


class Part(Config):
    name: str = Field(description="A name.")
    limit: Bytes = Field(default=10, ge=1, description="A limit.")
    mode: Literal["fast", "exact"] = Field(default="fast", description="A mode.")


class Whole(Config):
    parts: list[Part] = Field(default=[], description="Parts.")
    pair: tuple[int, int] = Field(default=(1, 2), description="Two numbers.")
    model: Annotated[Scratch | Existing, Field(discriminator="kind")] = Field(
        default=Scratch(kind="scratch"), description="A model."
    )
    rate: float = Field(default=0.1, description="A rate.")
    on: bool = Field(default=True, description="A switch.")
    low: int = Field(default=0, description="The low end.")
    high: int = Field(default=9, description="The high end.")

    @model_validator(mode="after")
    def _ordered(self) -> "Whole":
        if self.low > self.high:
            raise ValueError(f"low is {self.low}, more than high, which is {self.high}")
        return self


def errors_of(text: str) -> list[str]:
    with pytest.raises(RecipeError) as error:
        validate(Whole, read_yaml(text, name="r.yaml"))
    return error.value.message.splitlines()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("rates: 1", "r.yaml:1: rates: unknown key 'rates'; did you mean 'rate'?"),
        (
            "parts:\n- name: a\n  zzz: 1",
            "r.yaml:3: parts[0].zzz: unknown key 'zzz'; known keys: name, limit, mode",
        ),
        ("parts:\n- limit: 3", "r.yaml:2: parts[0].name: missing; this key is needed"),
        (
            "parts:\n- name: a\n  limit: 5 parsecs",
            "r.yaml:3: parts[0].limit: '5 parsecs': unknown unit 'parsecs'; use B, kB, MB, GB, KiB, MiB, GiB",
        ),
        ("parts:\n- {name: a, limit: 0}", "r.yaml:2: parts[0].limit: 0: input should be greater than or equal to 1"),
        (
            "parts:\n- {name: a, mode: fest}",
            "r.yaml:2: parts[0].mode: text 'fest' is not one of fast, exact; did you mean",
        ),
        ("parts:\n- {name: 3}", "r.yaml:2: parts[0].name: expected text, got 3"),
        ("parts: 3", "r.yaml:1: parts: expected a list, got 3"),
        ("parts:", "r.yaml:1: parts: expected a list, got nothing"),
        ("parts: [a]", "r.yaml:1: parts[0]: expected a section of `key: value` lines, got text 'a'"),
        ("rate: fast", "r.yaml:1: rate: expected a number, got text 'fast'"),
        ("rate: .nan", "r.yaml:1: rate: nan: input should be a finite number"),
        ("on: yes", "r.yaml:1: on: expected true or false, got text 'yes'"),
        ("low: 1.5", "r.yaml:1: low: expected a whole number, got 1.5"),
        ("low: 99", "r.yaml:1: recipe: low is 99, more than high, which is 9"),
        (
            "model:\n  kind: existing\n  size: 5\n  path: x",
            "r.yaml:3: model.size: unknown key 'size'; known keys: kind, path",
        ),
        ("model:\n  kind: existing", "r.yaml:1: model.path: missing; this key is needed"),
        ("model:\n  kind: none", "r.yaml:2: model.kind: text 'none' is not one of scratch, existing"),
        ("model:\n  size: 4", "r.yaml:2: model.kind: missing; this key is needed"),
    ],
)
def test_a_mistake_is_named_where_it_stands(text, line):
    (found,) = errors_of(text)
    assert found.startswith(line)


def test_all_mistakes_are_listed_up_to_ten():
    assert len(errors_of("rate: x\non: 3\nlow: a")) == 3
    lines = errors_of("\n".join(f"key{i}: 1" for i in range(14)))
    assert len(lines) == 11
    assert lines[-1] == "... and 4 more"


def test_lists_become_tuples_and_units_numbers():
    whole = validate(Whole, read_yaml("pair: [3, 4]\nparts: [{name: a, limit: 1 kB}]\nrate: 1e-4", name="x"))
    assert whole == Whole(pair=(3, 4), parts=[Part(name="a", limit=1000)], rate=1e-4)


def test_fields_below_a_key():
    assert fields_at(Whole, ("parts", 0)) == ["name", "limit", "mode"]
    assert fields_at(Whole, ("model",)) == ["kind", "size", "path"]
    assert fields_at(Whole, ("model", "existing")) == ["kind", "path"]
    assert fields_at(Whole, ("rate",)) == []
