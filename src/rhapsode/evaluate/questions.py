"""Held-out examples as questions: what the model reads, and the answer that somebody wrote."""

from typing import NamedTuple

from rhapsode.corpus.tokens import TokenSplit
from rhapsode.evaluate.held_out import shuffled
from rhapsode.text.tokenizer import Tokenizer


class Question(NamedTuple):
    """The ids before the first learned token of a sequence, and the same and its first answer as text."""

    ids: list[int]
    prompt: str
    wanted: str
    source: str


def questions(split: TokenSplit, tokenizer: Tokenizer, *, count: int, seed: int) -> list[Question]:
    """At most `count` questions of different examples, drawn by hash."""
    found: list[Question] = []
    for index in shuffled(split, seed=seed):
        if len(found) == count:
            break
        learned = split.learned(index)
        if learned is None or not split.is_wanted(index):
            continue
        start = int(learned.argmax())
        stop = start + int((~learned[start:]).argmax()) if not learned[start:].all() else len(learned)
        ids = split.document(index).tolist()
        asked = "".join(tokenizer.show(token) for token in ids[:start] if token != tokenizer.bos)
        found.append(Question(ids[:start], asked, tokenizer.decode(ids[start:stop]), split.document_source(index)))
    return found
