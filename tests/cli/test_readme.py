"""The commands that the documentation shows exist and parse."""

import re
import shlex
from pathlib import Path

import pytest

from rhapsode.cli.app import VERBS, make_app

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = sorted({match[1].strip() for match in re.finditer(r"(?:^\s*\$ |`)(rhapsode [^`\n]+)", README, re.MULTILINE)})


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_in_the_readme_parse(command):
    words = shlex.split(command, comments=True)[1:]
    function, bound, _ = make_app().parse_args(words, exit_on_error=False, print_error=False)
    assert function.__name__ == words[0] or function.__module__.endswith(f".{words[0]}")
    assert bound.arguments or words[0] in ("doctor", "schema", "models")


def test_the_readme_shows_every_verb():
    assert {command.split()[1] for command in COMMANDS} == set(VERBS)


def test_the_readme_names_every_make_target_it_uses():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"make ([a-z-]+)", README)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_links_in_documents_lead_somewhere():
    for document in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for link in re.findall(r"\]\(([^)#:]+)\)", document.read_text(encoding="utf-8")):
            assert (document.parent / link).exists(), f"{document.name}: {link}"
