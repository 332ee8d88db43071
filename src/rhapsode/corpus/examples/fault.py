"""What can be wrong with a row, where it is, and how to mend it."""

from typing import NamedTuple, NoReturn

from rhapsode.core.yaml import Key, format_key

UNREADABLE = "cannot be read"
OTHER_SHAPE = "another shape"
MISSING = "missing"
WRONG_TYPE = "wrong type"
UNKNOWN_ROLE = "unknown role"
NO_PROMPT = "no prompt"
EMPTY_ANSWER = "empty answer"
EMPTY_MESSAGE = "empty message"
EMPTY_COLUMN = "empty column"
NO_ANSWER = "no answer"
NO_TURNS = "no messages"
TWICE_IN_A_ROW = "two turns of one speaker"
LATE_SYSTEM = "system message not first"
RESULT_WITHOUT_CALL = "tool result without call"
CALL_WITHOUT_RESULT = "tool call without result"
BAD_ARGUMENTS = "arguments that are no JSON object"
UNLISTED_TOOL = "tool not in the list"
BAD_TOOL = "not a tool"
SAME_ANSWERS = "chosen and rejected are the same"
BAD_LABEL = "label is no boolean"
BAD_CHARACTER = "control character"
HALF_CHARACTER = "lone surrogate"
WEIGHTED = "weighted message"


class Problem(NamedTuple):
    """`kind` is one of few; `key` leads to the value; `what` says what it is, `mend` what to do."""

    kind: str
    key: Key
    what: str
    mend: str


class Misshapen(Exception):
    """A row that does not have the shape that it should have."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem


class Fault(NamedTuple):
    """A problem and its place in a file. `row` is counted from 1; `line` and `column` are 0 where there are none."""

    kind: str
    row: int
    line: int
    column: int
    key: str
    what: str
    mend: str

    def said(self, file: str) -> str:
        """One line for people: file:line:column: key: what; mend."""
        place = f"{file}:{self.line}" + (f":{self.column}" if self.column else "")
        place = place if self.line else f"{file}: row {self.row}"
        return (
            f"{place}: " + (f"{self.key}: " if self.key else "") + self.what + (f"; {self.mend}" if self.mend else "")
        )


def misshapen(kind: str, key: Key, what: str, mend: str) -> NoReturn:
    raise Misshapen(Problem(kind, key, what, mend))


def wrong_type(value: object, key: Key, *, wanted: str) -> NoReturn:
    """A value that is missing or of another type.

    Raises:
        Misshapen: always.
    """
    if value is None:
        misshapen(MISSING, key, "missing", f"{format_key(key[-1:])} must be {wanted}")
    misshapen(WRONG_TYPE, key, f"{_named(value)}, not {wanted}", f"write {wanted}")


def _named(value: object) -> str:
    names = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}
    return names.get(type(value), f"a {type(value).__name__}")
