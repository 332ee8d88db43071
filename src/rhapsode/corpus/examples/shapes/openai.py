"""OpenAI's `messages`, with `tools` where there are any."""

from rhapsode.core.yaml import Key
from rhapsode.corpus.examples.check import read_check
from rhapsode.corpus.examples.example import Conversation
from rhapsode.corpus.examples.shapes.shape import Row, Shape, has
from rhapsode.corpus.examples.shapes.turns import READ, read_tools, read_turns, source_key


def looks_like(row: Row) -> bool:
    return has(row, "messages") and not has(row, "label") and not has(row, "chosen", "rejected")


def convert(row: Row) -> Conversation:
    messages, tools = read_turns(row.get("messages"), ("messages",)), read_tools(row.get("tools"), ("tools",))
    return Conversation(messages, tools, read_check(row.get("check")))


def place(row: Row, key: Key) -> Key:
    return source_key(row["messages"], key[:1], key[1:]) if key[0] == "messages" and len(key) > 1 else key


SHAPE = Shape(
    name="openai",
    needs="messages",
    keys=frozenset({"messages", "tools", "check"}),
    turns=dict.fromkeys(("messages",), READ),
    looks_like=looks_like,
    convert=convert,
    place=place,
)
