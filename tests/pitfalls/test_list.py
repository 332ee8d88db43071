"""Every pitfall of the list has a test that plants it, and docs/pitfalls.md says where."""

import re
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
NUMBERS = {*range(1, 26), 72}


def test_every_pitfall_is_planted_somewhere() -> None:
    texts = "".join(path.read_text(encoding="utf-8") for path in HERE.glob("test_*.py"))
    planted = {int(number) for number in re.findall(r"^def test_(\d\d)_", texts, re.MULTILINE)}
    assert planted == NUMBERS


def test_the_page_has_every_pitfall_and_names_tests_that_exist() -> None:
    page = (ROOT / "docs" / "pitfalls.md").read_text(encoding="utf-8")
    assert {int(number) for number in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)} == NUMBERS
    named = re.findall(r"`(tests/[\w/]+\.py)`", page)
    assert named
    assert [name for name in named if not (ROOT / name).is_file()] == []
