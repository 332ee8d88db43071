"""The answer is a program, and passes its tests, in a sandbox.

What a model wrote runs in the same process as its tests: an exit before they are over, an exception or silence is a
failure, since only a word that is told on standard input, before the program is looked at, makes a result count. A
program that goes looking for that word in the frames of its callers can still forge one; where that is to be feared,
compare results from outside.
"""

import json
import re
import secrets
from collections.abc import Sequence
from typing import NamedTuple

from rhapsode.core.errors import RhapsodeError
from rhapsode.evaluate.scorers.sandbox import LIMITS, Limits, Outcome, Walls, run_python

FAULT_BYTES = 4096
"""What a fault of 300 characters may take as JSON."""
_FAILS = re.compile(r"\b(?:assert\b|raise\b|raises\b|unittest\b)|\.assert|def test_")
_HINT = "give it a field check: a list of pieces of Python that raise what is wrong, or one piece"
FENCE = re.compile(r"```(?:[Pp]ython3?|py)?[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL)
HARNESS = """
import json, os, sys

def run():
    order = json.load(sys.stdin)
    verdict = os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    for end in (0, 1, 2):
        os.dup2(nothing, end)
    faults = []
    for test in order["tests"]:
        space = {"__name__": "solution"}
        try:
            exec(compile(order["program"], "solution.py", "exec"), space)
            exec(compile(test, "test.py", "exec"), space)
        except BaseException as error:
            faults.append(f"{type(error).__name__}: {error}"[:300])
        else:
            faults.append(None)
    os.write(verdict, json.dumps([order["word"], faults]).encode())
    os._exit(0)

run()
"""


class Report(NamedTuple):
    """Of each test what was wrong, or None; `outcome` is that of the process."""

    faults: tuple[str | None, ...]
    outcome: Outcome

    @property
    def passed(self) -> int:
        return self.faults.count(None)


def unit_tests(answer: str, wanted: str) -> float:
    """1 if the answer's program passes all tests.

    Args:
        wanted: a JSON list of tests, each a piece of Python that raises if it is not passed; or one such piece.

    Raises:
        RhapsodeError: there is no test, or this machine has no sandbox.
    """
    report = run_tests(program_of(answer), split_tests(wanted))
    return float(report.passed == len(report.faults))


def run_tests(program: str, tests: Sequence[str], *, limits: Limits = LIMITS, walls: Walls = "namespaces") -> Report:
    """Run each test after a fresh run of the program; all in one process, which has the limits for all together.

    Raises:
        RhapsodeError: this machine does not allow the walls.
    """
    word = secrets.token_hex(16)
    order = json.dumps({"program": program, "tests": list(tests), "word": word})
    limits = limits._replace(output_bytes=max(limits.output_bytes, len(tests) * FAULT_BYTES))
    outcome = run_python({"main.py": HARNESS}, main="main.py", stdin=order, limits=limits, walls=walls)
    return Report(_verdict(outcome, word=word, count=len(tests)), outcome)


def _verdict(outcome: Outcome, *, word: str, count: int) -> tuple[str | None, ...]:
    try:
        said, faults = json.loads(outcome.output)
    except (ValueError, TypeError):
        said, faults = None, []
    if said != word or len(faults) != count:
        return (f"it did not come to the end of the tests: {outcome.ended} {outcome.code}",) * count
    return tuple(faults)


def program_of(answer: str) -> str:
    """The last fenced block of Python in an answer, or the whole of it."""
    blocks = FENCE.findall(answer)
    return str(blocks[-1]) if blocks else answer


def split_tests(wanted: str) -> list[str]:
    """Raises: RhapsodeError: there is none, or none that a program could fail."""
    try:
        found = json.loads(wanted)
    except ValueError:
        found = [wanted] if wanted.strip() else []
    if not isinstance(found, list) or not found or not all(isinstance(test, str) for test in found):
        raise RhapsodeError("a row has no unit tests", _HINT)
    if not any(_FAILS.search(test) for test in found):
        raise RhapsodeError("the unit tests of a row have no assert, so every program that runs would pass", _HINT)
    return found
