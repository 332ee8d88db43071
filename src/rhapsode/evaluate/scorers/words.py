"""How many words of a short answer are the wanted ones, as SQuAD's script counts them (Rajpurkar et al. 2016).

Case, punctuation and the English articles do not count.
"""

import re
import string
from collections import Counter

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def f1(answer: str, wanted: str) -> float:
    """The harmonic mean of the shares of both texts' words that they have in common.

    Where one has no words at all it is 1 if the other has none either: "" may be the right answer.
    """
    said, right = _words(answer), _words(wanted)
    if not said or not right:
        return float(said == right)
    common = (Counter(said) & Counter(right)).total()
    return 2 * common / (len(said) + len(right))


def _words(text: str) -> list[str]:
    return _ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split()
