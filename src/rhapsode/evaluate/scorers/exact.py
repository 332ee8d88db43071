"""The answer is the wanted text, to the letter: what a program that reads it would need."""

import unicodedata

from rhapsode.evaluate.scorers.scorer import require_wanted


def exact(answer: str, wanted: str) -> float:
    """1 if both are the same text, whatever white space is around it and however its accents are composed.

    Raises:
        RhapsodeError: the wanted text is empty.
    """
    require_wanted(wanted)
    return float(_bare(answer) == _bare(wanted))


def _bare(text: str) -> str:
    return unicodedata.normalize("NFC", text).strip()
