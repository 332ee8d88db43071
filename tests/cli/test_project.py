"""What is installed is what is written down."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]


def lines(name: str) -> list[str]:
    text = (ROOT / "requirements" / name).read_text(encoding="utf-8")
    return [line for line in text.splitlines() if not line.startswith(("#", "-r"))]


def pins(name: str) -> dict[str, Version]:
    return {canonicalize_name(line.split("==")[0]): Version(line.split("==")[1]) for line in lines(name)}


@pytest.mark.parametrize("name", ["base.lock", "test.lock"])
def test_locks_hold_plain_pins_and_no_host(name):
    for line in lines(name):
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9A-Za-z.]*", line)


def test_torch_is_installed_first():
    assert lines("base.lock")[0].startswith("torch==")


@pytest.mark.parametrize("requirement", PROJECT["dependencies"])
def test_the_base_lock_holds_every_dependency(requirement):
    wanted = Requirement(requirement)
    assert pins("base.lock")[canonicalize_name(wanted.name)] in wanted.specifier


@pytest.mark.parametrize("requirement", [*EXTRAS["test"], *EXTRAS["lint"]])
def test_the_test_lock_holds_what_tests_need(requirement):
    wanted = Requirement(requirement)
    assert {**pins("base.lock"), **pins("test.lock")}[canonicalize_name(wanted.name)] in wanted.specifier


def test_no_package_is_pinned_twice():
    assert not set(pins("base.lock")) & set(pins("test.lock"))
