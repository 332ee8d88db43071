"""ShareGPT's `conversations`: turns of `from` and `value`, with `system` and `tools` beside them."""

from rhapsode.core.yaml import Key
from rhapsode.corpus.examples.check import read_check
from rhapsode.corpus.examples.example import Conversation
from rhapsode.corpus.examples.fault import wrong_type
from rhapsode.corpus.examples.shapes.shape import Row, Shape, has
from rhapsode.corpus.examples.shapes.turns import READ, read_tools, read_turns, source_key
from rhapsode.text.chat import Message


def looks_like(row: Row) -> bool:
    return has(row, "conversations") and not has(row, "label") and not has(row, "chosen", "rejected")


def convert(row: Row) -> Conversation:
    turns = read_turns(row.get("conversations"), ("conversations",))
    system = row.get("system")
    if system:
        if not isinstance(system, str):
            wrong_type(system, ("system",), wanted="text")
        turns = (Message(role="system", content=system), *turns)
    return Conversation(turns, read_tools(row.get("tools"), ("tools",)), read_check(row.get("check")))


def place(row: Row, key: Key) -> Key:
    if key[0] != "messages" or len(key) == 1:
        return ("conversations",) if key[0] == "messages" else key
    index = int(key[1]) - bool(row.get("system"))
    return ("system",) if index < 0 else source_key(row["conversations"], ("conversations",), (index, *key[2:]))


SHAPE = Shape(
    name="sharegpt",
    needs="conversations",
    keys=frozenset({"conversations", "system", "tools", "check"}),
    turns=dict.fromkeys(("conversations",), READ),
    looks_like=looks_like,
    convert=convert,
    place=place,
)
