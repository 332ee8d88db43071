"""Plain text, for pretraining that goes on."""

from rhapsode.core.yaml import Key
from rhapsode.corpus.examples.example import Text
from rhapsode.corpus.examples.fault import wrong_type
from rhapsode.corpus.examples.shapes.shape import Row, Shape, has


def looks_like(row: Row) -> bool:
    """A text beside a label is a text to classify."""
    return has(row, "text") and not has(row, "label")


def convert(row: Row) -> Text:
    text = row.get("text")
    if not isinstance(text, str):
        wrong_type(text, ("text",), wanted="text")
    if not isinstance(is_cut := row.get("is_cut", False), bool):
        wrong_type(is_cut, ("is_cut",), wanted="true or false")
    return Text(text, is_cut=is_cut)


def place(row: Row, key: Key) -> Key:  # noqa: ARG001 - as every shape has it
    return key


SHAPE = Shape(
    name="text",
    needs="text",
    keys=frozenset({"text", "is_cut"}),
    turns={},
    looks_like=looks_like,
    convert=convert,
    place=place,
)
