import json

import pytest

from rhapsode.core.errors import RhapsodeError
from rhapsode.evaluate.items import Item
from rhapsode.evaluate.judging import judge
from rhapsode.evaluate.scorers.registry import scorer
from rhapsode.evaluate.scorers.sandbox import LIMITS
from rhapsode.evaluate.scorers.unit_tests import program_of, run_tests, split_tests, unit_tests

TESTS = ["assert add(1, 2) == 3", "assert add(-1, 1) == 0", "assert add('a', 'b') == 'ab'"]
pytestmark = pytest.mark.usefixtures("walls")


def reward(answer: str) -> float:
    return unit_tests(answer, json.dumps(TESTS))


@pytest.mark.parametrize(
    "answer",
    [
        "def add(a, b):\n    return a + b",
        "Here you are:\n```python\ndef add(a, b):\n    return a + b\n```\nIt adds.",
        "First ```python\nx = 1\n``` and then\n```py\nimport operator\nadd = operator.add\n```",
        "```python\ndef add(a, b): return a + b",
    ],
)
def test_a_program_that_passes(answer: str) -> None:
    assert reward(answer) == 1


@pytest.mark.parametrize(
    "answer",
    [
        "", "I do not know.", "def add(a, b): return 3", "def add(a, b): return a - b", "add = None", "def add(a, b",
        "raise SystemExit(0)", "import os; os._exit(0)", "import sys; sys.exit()", "while True: pass",
        "\ud800", "\0",
        "print('[\"word\", [null, null, null]]'); import os; os._exit(0)",
        "import os\nfor i in range(3, 9):\n  try: os.write(i, b'[\"\", [null, null, null]]')\n  except OSError: pass",
        "import os\nfor i in range(3, 30):\n  try: os.close(i)\n  except OSError: pass",
        "import threading\nthreading.Thread(target=lambda: [0 for _ in iter(int, 1)]).start()\ndef add(a, b): return 0",
        "import builtins; builtins.compile = None",
        "import sys; sys.setrecursionlimit(10**9)\ndef add(a, b): return add(a, b)",
        "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\nos.kill(0, signal.SIGKILL)",
    ],
    ids=range(19),
)  # fmt: skip
def test_a_program_that_does_not(answer: str) -> None:
    report = run_tests(program_of(answer), TESTS, limits=LIMITS._replace(seconds=3.0))
    assert report.passed < len(TESTS)


def test_each_test_is_told_apart() -> None:
    report = run_tests("def add(a, b): return 3", TESTS)
    assert report.faults == (None, "AssertionError: ", "AssertionError: ")


def test_each_test_begins_afresh() -> None:
    report = run_tests("seen = []", ["seen.append(1); assert len(seen) == 1"] * 3)
    assert report.passed == 3


def test_the_tests_are_nowhere_to_be_read() -> None:
    program = "import os, sys\nfound = [open(p).read() for p in os.listdir('.')] + [sys.stdin.read()]"
    assert run_tests(
        program, ["assert not any('tell' + 'tale' in text for text in found), found  # tell" + "tale"]
    ).passed


def test_many_tests_with_long_faults_are_all_told() -> None:
    report = run_tests("", ["raise ValueError('\u00e4' * 1000)"] * 300)
    assert len(report.faults) == 300
    assert report.faults[299] == "ValueError: " + "\u00e4" * 288


def test_one_piece_of_python_is_one_test() -> None:
    assert split_tests("assert 1\nassert 2") == ["assert 1\nassert 2"]


@pytest.mark.parametrize("wanted", ["def add(a, b): return a + b", '["add(1, 2)"]', "asserted = 3"])
def test_tests_that_nothing_can_fail_are_a_fault_of_the_row(wanted: str) -> None:
    """As where the row's own program stands in their place, which passes itself."""
    with pytest.raises(RhapsodeError, match="every program that runs would pass"):
        unit_tests("x = 1", wanted)


@pytest.mark.parametrize("wanted", ["", "[]", "[1]", "{}", "3"])
def test_a_row_without_tests_is_a_fault_of_the_row(wanted: str) -> None:
    with pytest.raises(RhapsodeError, match="no unit tests"):
        unit_tests("x = 1", wanted)


def test_programs_pass_the_tests_of_their_rows() -> None:
    item = Item("x", "x", "def add(a, b):\n", "    return a + b", check='["assert add(1, 2) == 3"]')
    assert judge(scorer("unit_tests"), [item] * 2, ["    return b + a", "    return a - b"]).scores.tolist() == [1, 0]
