"""`prompt` and `completion`: both text, which is learned as it stands, or messages."""

from rhapsode.core.yaml import Key
from rhapsode.corpus.examples.check import read_check
from rhapsode.corpus.examples.example import Completion, Messages
from rhapsode.corpus.examples.shapes.shape import Row, Shape, has
from rhapsode.corpus.examples.shapes.turns import READ, read_tools, read_turns, source_key
from rhapsode.text.chat import Message, Role


def looks_like(row: Row) -> bool:
    return "prompt" in row and "completion" in row and not has(row, "label")


def convert(row: Row) -> Completion:
    prompt, completion, check = row.get("prompt"), row.get("completion"), read_check(row.get("check"))
    if isinstance(prompt, str) and isinstance(completion, str):
        return Completion(prompt, completion, check=check)
    return Completion(
        spoken(prompt, ("prompt",), role="user"),
        spoken(completion, ("completion",), role="assistant"),
        read_tools(row.get("tools"), ("tools",)),
        check,
    )


def spoken(value: object, key: Key, *, role: Role) -> Messages:
    """Messages, or a text as the one message of `role`.

    Raises:
        Misshapen: it is neither.
    """
    return (Message(role=role, content=value),) if isinstance(value, str) else read_turns(value, key)


def place(row: Row, key: Key) -> Key:
    value = row.get(str(key[0]))
    if len(key) == 1 or isinstance(value, str):
        return key[:1]
    return (
        source_key(value, key[:1], key[1:])
        if isinstance(value, list | dict) and key[0] in ("prompt", "completion")
        else key
    )


SHAPE = Shape(
    name="completion",
    needs="prompt and completion",
    keys=frozenset({"prompt", "completion", "tools", "check"}),
    turns=dict.fromkeys(
        (
            "prompt",
            "completion",
        ),
        READ,
    ),
    looks_like=looks_like,
    convert=convert,
    place=place,
)
