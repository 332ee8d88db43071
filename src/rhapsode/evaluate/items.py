"""What a model is asked, and what somebody would have answered: the rows of a corpus of examples.

The last answer of a row that is said in words is wanted, given all that stands before it. Rows with the same prompt are
one group: their answers say little more together than one of them.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rhapsode.core.errors import RhapsodeError
from rhapsode.core.events import Events
from rhapsode.corpus.documents import iter_documents
from rhapsode.corpus.examples.example import (
    Completion,
    Conversation,
    Example,
    Feedback,
    Messages,
    Preference,
    Text,
    Tools,
    example_of,
    opening,
)
from rhapsode.corpus.examples.prepare import same_prompt
from rhapsode.evaluate.held_out import rank


class Item(NamedTuple):
    """One question. Items of one `group` are not independent of each other; `rejected` is an answer nobody wants."""

    id: str
    group: str
    prompt: str | Messages
    wanted: str
    tools: Tools = ()
    rejected: str = ""

    @property
    def shown(self) -> str:
        """The prompt for people."""
        if isinstance(self.prompt, str):
            return self.prompt
        return "\n\n".join(f"{message.role}: {message.content}" for message in self.prompt)


def items_of(corpus: Path, *, split: str, events: Events) -> list[Item]:
    """An item for every example of a split; tells how many ask for nothing that is said in words.

    Raises:
        RhapsodeError: the corpus has no such split, or none of it asks for an answer in words.
    """
    examples = ((document.id, example_of(document)) for document in iter_documents(corpus, split=split))
    made = [item_of(example, name=name) for name, example in examples]
    found = [item for item in made if item is not None]
    events.emit("items", split=split, asked=len(found), left_out=len(made) - len(found))
    if not found:
        raise RhapsodeError(
            f"none of the {len(made):,} {split} examples asks for an answer in words", "leave evaluate.task out"
        )
    return found


def item_of(example: Example, *, name: str) -> Item | None:
    """None for plain text, an unwanted answer, and a conversation in which nothing but tool calls is answered."""
    tools: Tools = () if isinstance(example, Text) else example.tools
    match example:
        case Completion(str() as prompt, str() as wanted, _):
            asked: tuple[str | Messages, str] | None = (prompt, wanted)
        case Completion(tuple() as prompt, tuple() as answer, _) | Preference(prompt, answer, _, _):
            asked = _last_words((*prompt, *answer))
        case Feedback(prompt, answer, True, _):
            asked = _last_words((*prompt, *answer))
        case Conversation(messages, _):
            asked = _last_words(messages)
        case _:
            asked = None
    if asked is None:
        return None
    group = hashlib.blake2b(same_prompt(opening(example)), digest_size=8).hexdigest()
    rejected = _last_words(example.rejected) if isinstance(example, Preference) else None
    return Item(name, group, *asked, tools, rejected[1] if rejected else "")


def draw(items: Sequence[Item], *, most: int | None, seed: int) -> list[Item]:
    """At most so many items, by a hash of their names alone, in the order in which they are given."""
    chosen = {item.id for item in sorted(items, key=lambda item: rank(item.id, seed=seed))[:most]}
    return [item for item in items if item.id in chosen]


def _last_words(messages: Messages) -> tuple[Messages, str] | None:
    """The last answer in words, and what stands before it."""
    for index in range(len(messages) - 1, -1, -1):
        message = messages[index]
        if message.role == "assistant" and message.content.strip() and not message.tool_calls:
            return messages[:index], message.content
    return None
