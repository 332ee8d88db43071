"""docs/adding-a-family.md shows the code that is there, names what exists, and is right that it is little."""

import dataclasses
import re
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.model.cases import CASES

from rhapsode.model.rope import Rope
from rhapsode.model.spec import Experts, LayerSpec, ModelSpec

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "adding-a-family.md").read_text(encoding="utf-8")


class Block(NamedTuple):
    """Code in the document, and the file that it is said to be in."""

    path: str
    code: str


BLOCKS = [Block(*found) for found in re.findall(r"^```python (\S+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)]


def test_no_block_of_code_is_without_its_file() -> None:
    assert TEXT.count("```") == 2 * len(BLOCKS)
    assert len(BLOCKS) == 7


@pytest.mark.parametrize("block", BLOCKS)
def test_the_code_shown_is_the_code_in_the_file(block: Block) -> None:
    source = (ROOT / block.path).read_text(encoding="utf-8")
    assert block.code in source


def test_the_family_is_shown_whole() -> None:
    (family,) = (block for block in BLOCKS if block.path.endswith("starcoder.py"))
    assert family.code == (ROOT / family.path).read_text(encoding="utf-8")


def test_the_whole_addition_is_under_forty_lines() -> None:
    lines = [line for block in BLOCKS for line in block.code.splitlines() if line.strip()]
    assert len(lines) < 40


def test_every_case_of_the_family_is_shown() -> None:
    shown = "".join(block.code for block in BLOCKS if block.path.endswith("cases.py"))
    assert all(f'"{case}"' in shown for case, config in CASES.items() if config["model_type"] == "starcoder2")


@pytest.mark.parametrize("kind", [ModelSpec, LayerSpec, Rope, Experts])
def test_every_field_is_named(kind: type) -> None:
    assert {field.name for field in dataclasses.fields(kind) if f"`{field.name}`" not in TEXT} == set()


def test_every_file_that_is_named_exists() -> None:
    assert all((ROOT / "tests/model" / name).is_file() for name in re.findall(r"`(test_\w+\.py)`", TEXT))
    inside = [path for path in re.findall(r"`([a-z_]+/[a-z_/]+\.py)`", TEXT) if not path.startswith("tests/")]
    assert all((ROOT / "src/rhapsode" / path).is_file() for path in inside)
    assert all((ROOT / path).exists() for path in re.findall(r"`(tests/[a-z_/.]+)`", TEXT))
