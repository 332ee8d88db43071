"""What a model is asked, and what somebody would have answered: the rows of a corpus of examples.

The last answer of a row that is said in words is wanted, given all that stands before it; where tool calls are judged,
every answer that calls a tool too. Rows with the same prompt are one group: their answers say little more together than
one of them.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

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
    same_prompt,
)
from rhapsode.evaluate.held_out import rank
from rhapsode.text.chat import Function
from rhapsode.text.chatml import spoken


class Item(NamedTuple):
    """One question. Items of one `group` are not independent of each other.

    Attributes:
        wanted: the answer that the row has, tool calls as our ChatML writes them.
        check: what the row has beside it (`corpus/examples/check.py`), empty where there is nothing.
        calls: what `wanted` calls.
        rejected: an answer that nobody wants, where the row has one.
    """

    id: str
    group: str
    prompt: str | Messages
    wanted: str
    tools: Tools = ()
    check: str = ""
    calls: tuple[Function, ...] = ()
    rejected: str = ""

    @property
    def shown(self) -> str:
        """The prompt for people."""
        if isinstance(self.prompt, str):
            return self.prompt
        return "\n\n".join(f"{message.role}: {spoken(message)}" for message in self.prompt)


def items_of(corpus: Path, *, split: str, events: Events, with_calls: bool = False) -> list[Item]:
    """An item for every example of a split; tells how many examples ask for nothing.

    Args:
        with_calls: answers that call tools are items too, so that an example may have several.

    Raises:
        RhapsodeError: the corpus has no such split, or none of it asks for an answer.
    """
    made = [
        _items(example_of(document), name=document.id, group=document.meta.get("group"), with_calls=with_calls)
        for document in iter_documents(corpus, split=split)
    ]
    found = [item for items in made for item in items]
    events.emit("items", split=split, asked=len(found), left_out=sum(not items for items in made))
    if not found:
        words = "an answer" if with_calls else "an answer in words"
        raise RhapsodeError(f"none of the {len(made):,} {split} examples asks for {words}", "leave evaluate.task out")
    return found


def _items(example: Example, *, name: str, group: str | None, with_calls: bool) -> list[Item]:
    last = item_of(example, name=name, group=group)
    return [
        *(call_items(example, name=name, group=group) if with_calls else ()),
        *([last] if last is not None else ()),
    ]


def call_items(example: Example, *, name: str, group: str | None = None) -> list[Item]:
    """An item for each answer of an example that calls tools; of a prompt and its answer, the answer alone."""
    match example:
        case Conversation(messages, tools):
            first = 0
        case Completion(tuple() as prompt, tuple() as answer, tools) | Preference(prompt, answer, _, tools):
            messages, first = (*prompt, *answer), len(prompt)
        case Feedback(prompt, answer, True, tools):
            messages, first = (*prompt, *answer), len(prompt)
        case _:
            return []
    return [
        Item(
            f"{name}#{index}",
            group_of(example, group),
            messages[:index],
            spoken(message),
            tools,
            calls=tuple(call.function for call in message.tool_calls),
        )
        for index, message in enumerate(messages)
        if index >= first and message.role == "assistant" and message.tool_calls
    ]


def item_of(example: Example, *, name: str, group: str | None = None) -> Item | None:
    """None for plain text, an unwanted answer, and a conversation in which nothing but tool calls is answered.

    Args:
        group: what it belongs to, by `data.split.group`; where that names none, what opens alike belongs together.
    """
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
    check = example.check if isinstance(example, Conversation | Completion) else ""
    unwanted = _last_words(example.rejected) if isinstance(example, Preference) else None
    rejected = unwanted[1] if unwanted else ""
    return Item(name, group_of(example, group), *asked, tools, check, rejected=rejected)


def group_of(example: Example, group: str | None) -> str:
    """The same for examples of one `group`, or where there is none, that open alike: they are not independent."""
    together = same_prompt(opening(example)) if group is None else group.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(together, digest_size=8).hexdigest()


class Named(Protocol):
    """What has a name to be drawn by."""

    @property
    def id(self) -> str: ...


Drawn = TypeVar("Drawn", bound=Named)


def draw(items: Sequence[Drawn], *, most: int | None, seed: int) -> list[Drawn]:
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
