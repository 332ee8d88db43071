"""The answer is the label, to the letter: what a program that reads it would need."""

import unicodedata

from rhapsode.core.errors import RhapsodeError


def label(answer: str, wanted: str) -> float:
    """1 if both are the same text, whatever white space is around it and however its accents are composed.

    Raises:
        RhapsodeError: the label is empty.
    """
    if not (right := _bare(wanted)):
        raise RhapsodeError("the label is empty, and so would be the right answer", "give every row its label")
    return float(_bare(answer) == right)


def _bare(text: str) -> str:
    return unicodedata.normalize("NFC", text).strip()
