"""docs/structure.md is the map of the code: what it names exists, and what exists is named."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "rhapsode"
TEXT = (ROOT / "docs" / "structure.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`([a-z]+/[a-z_/]+\.py)`", TEXT))))
def test_modules_that_the_map_names_exist(name):
    assert (PACKAGE / name).is_file()


def test_every_package_is_on_the_map():
    packages = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert {name for name in packages if f"`{name}`" not in TEXT} == set()
