"""`turns` of `speaker` and `text`, as dialogue research writes them (schema-guided dialogue, Taskmaster).

There the SYSTEM is the machine that one talks to: the assistant.
"""

from collections.abc import Mapping

from rhapsode.core.yaml import Key
from rhapsode.corpus.examples.example import Conversation
from rhapsode.corpus.examples.fault import UNKNOWN_ROLE, misshapen, wrong_type
from rhapsode.corpus.examples.shapes.shape import Row, Shape
from rhapsode.text.chat import Message, Role

_ROLES: dict[str, Role] = {"user": "user", "system": "assistant", "assistant": "assistant"}
_NAMES = {"role": "speaker", "content": "text"}


def looks_like(row: Row) -> bool:
    turns = row.get("turns")
    return isinstance(turns, list) and bool(turns) and isinstance(turns[0], Mapping) and "speaker" in turns[0]


def convert(row: Row) -> Conversation:
    turns = row.get("turns")
    if not isinstance(turns, list) or not turns:
        wrong_type(turns or None, ("turns",), wanted="a list of turns")
    return Conversation(tuple([_turn(turn, ("turns", index)) for index, turn in enumerate(turns)]))


def _turn(turn: object, key: Key) -> Message:
    if not isinstance(turn, Mapping):
        wrong_type(turn, key, wanted="an object with speaker and text")
    speaker, text = turn.get("speaker"), turn.get("text")
    if not isinstance(speaker, str):
        wrong_type(speaker, (*key, "speaker"), wanted="text")
    if not isinstance(text, str):
        wrong_type(text, (*key, "text"), wanted="text")
    role = _ROLES.get(speaker.lower())
    if role is None:
        misshapen(UNKNOWN_ROLE, (*key, "speaker"), repr(speaker[:40]), f"say one of {', '.join(_ROLES)}")
    return Message(role=role, content=text)


def place(row: Row, key: Key) -> Key:  # noqa: ARG001 - as every shape has it
    return ("turns", *key[1:2], *(_NAMES.get(str(step), str(step)) for step in key[2:3]))


SHAPE = Shape(
    name="dialogue",
    needs="turns of speaker and text",
    keys=frozenset({"turns"}),
    turns={"turns": frozenset({"speaker", "text"})},
    looks_like=looks_like,
    convert=convert,
    place=place,
)
