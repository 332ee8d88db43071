"""What the command line tells people to type can be typed."""

import subprocess
import sys

import pytest

from rhapsode.cli.console import program


@pytest.mark.parametrize(
    ("called", "said"),
    [("/venv/bin/rhapsode", "/venv/bin/rhapsode"), ("/src/rhapsode/__main__.py", f"{sys.executable} -m rhapsode")],
)
def test_a_program_that_the_shell_does_not_find_is_told_as_it_was_called(
    called: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "argv", [called])
    assert program() == said


def test_a_module_that_is_told_runs() -> None:
    done = subprocess.run([sys.executable, "-m", "rhapsode", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip()
