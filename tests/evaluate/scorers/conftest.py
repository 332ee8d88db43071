"""Whether this machine allows walls."""

from collections.abc import Callable

import pytest

from rhapsode.core.errors import RhapsodeError
from rhapsode.evaluate.scorers.sandbox import Outcome, run_python

Run = Callable[..., Outcome]


def why_not() -> str | None:
    try:
        run_python({"main.py": ""}, main="main.py")
    except RhapsodeError as error:
        return error.message
    return None


@pytest.fixture(scope="session")
def walls() -> None:
    if reason := why_not():
        pytest.skip(reason)


@pytest.fixture
def run(walls: None) -> Run:
    """Run a piece of Python in the sandbox."""

    def run(program: str, **how: object) -> Outcome:
        return run_python({"main.py": program}, main="main.py", **how)

    return run
