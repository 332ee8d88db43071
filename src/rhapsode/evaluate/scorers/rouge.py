"""ROUGE (Lin 2004): which words of a wanted text an answer has, alone, in pairs, or in the same order.

Computed by the package rouge-score, without stemming. What it calls a word is a run of a to z and 0 to 9, which tears
words of most languages apart; here it is a run of letters and digits of any script, which for ASCII is the same.
"""

import re
from functools import cache
from typing import TYPE_CHECKING

from rhapsode.core.errors import RhapsodeError

if TYPE_CHECKING:
    from rouge_score.rouge_scorer import RougeScorer

WORD = re.compile(r"[^\W_]+")


class Words:
    """What rouge-score calls a tokenizer."""

    def tokenize(self, text: str) -> list[str]:
        return WORD.findall(text.lower())


def rouge1(answer: str, wanted: str) -> float:
    """F1 of single words. Raises: RhapsodeError: the wanted text has no words."""
    return _f1("rouge1", answer, wanted)


def rouge2(answer: str, wanted: str) -> float:
    """F1 of pairs of words that follow each other. Raises: RhapsodeError: the wanted text has no words."""
    return _f1("rouge2", answer, wanted)


def rouge_l(answer: str, wanted: str) -> float:
    """F1 of the longest run of words in the same order. Raises: RhapsodeError: the wanted text has no words."""
    return _f1("rougeL", answer, wanted)


def _f1(kind: str, answer: str, wanted: str) -> float:
    if not WORD.search(wanted):
        raise RhapsodeError(f"the wanted text {wanted[:60]!r} has no words to count", "give the row a text")
    return float(_scorer(kind).score(wanted, answer)[kind].fmeasure)


@cache
def _scorer(kind: str) -> "RougeScorer":
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer([kind], tokenizer=Words())
