"""Alpaca's `instruction`, `input` and `output`, with `system` and earlier pairs in `history`.

The question is the instruction and, on a line of its own, the input, as LLaMA-Factory puts them together.
"""

from rhapsode.core.yaml import Key
from rhapsode.corpus.examples.check import read_check
from rhapsode.corpus.examples.example import Conversation
from rhapsode.corpus.examples.fault import WRONG_TYPE, misshapen, wrong_type
from rhapsode.corpus.examples.shapes.shape import Row, Shape, has
from rhapsode.text.chat import Message


def looks_like(row: Row) -> bool:
    return has(row, "instruction") and ("output" in row or "response" in row) and not has(row, "chosen", "rejected")


def convert(row: Row) -> Conversation:
    messages = []
    if system := _text(row, "system"):
        messages.append(Message(role="system", content=system))
    for question, answer in _history(row):
        messages += [Message(role="user", content=question), Message(role="assistant", content=answer)]
    question = "\n".join(filter(None, (_text(row, "instruction"), _text(row, "input"))))
    name = "output" if "output" in row else "response"
    given = row.get(name)
    if not isinstance(given, str):
        wrong_type(given, (name,), wanted="text")
    messages += [Message(role="user", content=question), Message(role="assistant", content=given)]
    return Conversation(tuple(messages), check=read_check(row.get("check")))


def place(row: Row, key: Key) -> Key:
    if key[0] != "messages" or len(key) == 1:
        return ("instruction",) if key[0] == "messages" else key
    index = int(key[1]) - bool(row.get("system"))
    if index < 0:
        return ("system",)
    pair, side = divmod(index, 2)
    if pair < len(row.get("history") or ()):
        return ("history", pair, side)
    return ("output" if "output" in row else "response",) if side else ("instruction",)


def _text(row: Row, name: str) -> str:
    """A field that may be left out."""
    value = row.get(name)
    if value is not None and not isinstance(value, str):
        wrong_type(value, (name,), wanted="text")
    return value or ""


def _history(row: Row) -> list[list[str]]:
    pairs = row.get("history") or []
    if not isinstance(pairs, list):
        wrong_type(pairs, ("history",), wanted="a list of pairs")
    for index, pair in enumerate(pairs):
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair)):
            misshapen(WRONG_TYPE, ("history", index), "no pair of texts", "write [question, answer]")
    return pairs


SHAPE = Shape(
    name="alpaca",
    needs="instruction and output",
    keys=frozenset({"instruction", "input", "output", "response", "system", "history", "check"}),
    turns={},
    looks_like=looks_like,
    convert=convert,
    place=place,
)
