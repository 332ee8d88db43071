"""The number at the end of a maths answer, as in GSM8K (Cobbe et al. 2021, arXiv:2110.14168).

Where the number stands is said by the answer itself: after its last `####`, in its last `\\boxed{}`, or else it is the
last number that occurs. Numbers are compared exactly: 1,234.50 is 2469/2.
"""

import re
from fractions import Fraction

from rhapsode.core.errors import RhapsodeError

MARK = "####"
BOXED = re.compile(r"\\boxed\s*\{([^{}]*)\}")
_DIGITS = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)"
_DECIMAL = rf"(?:{_DIGITS}(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][-+]?[0-9]{{1,2}}(?![0-9]))?"
NUMBER = re.compile(rf"(?:(?<![\w.)])[-+\u2212]\s?\$?)?(?P<top>{_DECIMAL})(?:/(?P<bottom>{_DECIMAL}))?")
LONGEST = 400
"""Characters of a number: what is longer was not meant as one."""


def number(answer: str, wanted: str) -> float:
    """1 if the final numbers of both are equal.

    Raises:
        RhapsodeError: the right answer has no number.
    """
    return float(final_number(answer) == _right(wanted))


def number_near(answer: str, wanted: str) -> float:
    """How near the final numbers are: 1 - |a - w| / (|a| + |w|), which is 0 across zero and for no number at all.

    That is 1 less the symmetric error of Makridakis 1993 (doi:10.1016/0169-2070(93)90079-3); equal zeros are 1.

    Raises:
        RhapsodeError: the right answer has no number.
    """
    right, given = _right(wanted), final_number(answer)
    if given is None:
        return 0.0
    return 1.0 if given == right else float(1 - abs(given - right) / (abs(given) + abs(right)))


def _right(wanted: str) -> Fraction:
    right = final_number(wanted)
    if right is None:
        raise RhapsodeError(
            f"the right answer {wanted[-80:]!r} has no number", f"end it with {MARK} and the number, or with the number"
        )
    return right


def final_number(text: str) -> Fraction | None:
    """The number that an answer comes to; None if it has none where it says that it is."""
    if MARK in text:
        found = NUMBER.search(text.rpartition(MARK)[2])
        return _value(found) if found else None
    boxes = BOXED.findall(text)
    found = None
    for found in NUMBER.finditer(boxes[-1] if boxes else text):  # noqa: B007 - the last one is meant
        pass
    return _value(found) if found else None


def _value(found: re.Match[str]) -> Fraction | None:
    if len(found[0]) > LONGEST:
        return None
    top, bottom = (Fraction(part.replace(",", "")) if part else Fraction(1) for part in found.group("top", "bottom"))
    if not bottom:
        return None
    return -top / bottom if found[0][0] in "-\u2212" else top / bottom
