"""Held-out answers that people judged: two to one prompt, or one that is good or bad."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rhapsode.core.errors import RhapsodeError
from rhapsode.core.events import Events
from rhapsode.corpus.documents import Document, iter_documents
from rhapsode.corpus.examples.example import Feedback, Messages, Preference, example_of
from rhapsode.corpus.tokens import TokenSplit
from rhapsode.corpus.trees import too_long
from rhapsode.evaluate.items import group_of

GOOD, BAD = ("chosen", "good"), ("rejected", "bad")


class Rated(NamedTuple):
    """An example and its answers, the wanted one first. Examples of one `group` are not independent of each other.

    Attributes:
        sequences: of its answers, in their order, in the split.
        answers: as people read them.
        are_good: whether each was wanted.
    """

    id: str
    group: str
    prompt: str
    sequences: tuple[int, ...]
    answers: tuple[str, ...]
    are_good: tuple[bool, ...]


def rated_of(corpus: Path, split: TokenSplit, *, name: str, context: int, events: Events) -> list[Rated]:
    """The examples of a split that fit into `context`; tells how many do not.

    Args:
        name: of the split, in the corpus from which its tokens were made.

    Raises:
        RhapsodeError: none is left.
    """
    left_out = set(too_long(split, context=context))
    own: dict[str, list[int]] = defaultdict(list)
    for index in range(split.num_documents):
        if split.role(index) in (*GOOD, *BAD) and index not in left_out:
            own[split.document_id(index)].append(index)
    documents = list(iter_documents(corpus, split=name))
    found = [_rated(d, own[d.id], split) for d in documents if own[d.id]]
    events.emit("items", split=name, asked=len(found), left_out=len(documents) - len(found))
    if not found:
        raise RhapsodeError(
            f"none of the {len(documents):,} {name} examples holds answers that people judged",
            "name other scorers in evaluate.task, or raise model.context",
        )
    return found


def _rated(document: Document, sequences: Sequence[int], split: TokenSplit) -> Rated:
    match example := example_of(document):
        case Preference(prompt, chosen, rejected, _):
            answers = [_shown(chosen), _shown(rejected)]
        case Feedback(prompt, completion, _, _):
            answers = [_shown(completion)]
        case _:
            raise AssertionError("an example without a judgement")
    are_good = tuple(split.role(index) in GOOD for index in sequences)
    shown = _shown(prompt, with_roles=True)
    group = group_of(example, document.meta.get("group"))
    return Rated(document.id, group, shown, tuple(sequences), tuple(answers), are_good)


def _shown(messages: Messages, *, with_roles: bool = False) -> str:
    return "\n\n".join(f"{m.role}: {m.content}" if with_roles or len(messages) > 1 else m.content for m in messages)
