"""KTO's `prompt`, `completion` and `label`: whether people want such an answer.

Instead of the first two there may be a conversation, in `messages` or `conversations`, that ends in the answer.
"""

from rhapsode.core.yaml import Key
from rhapsode.corpus.examples.example import Feedback
from rhapsode.corpus.examples.fault import BAD_LABEL, NO_ANSWER, misshapen
from rhapsode.corpus.examples.shapes.completion import place as place_in_parts
from rhapsode.corpus.examples.shapes.completion import spoken
from rhapsode.corpus.examples.shapes.shape import Row, Shape, has
from rhapsode.corpus.examples.shapes.turns import READ, read_tools, read_turns, source_key


def looks_like(row: Row) -> bool:
    return has(row, "label") and (has(row, "prompt", "completion") or _talk(row) is not None)


def convert(row: Row) -> Feedback:
    label, tools = row.get("label"), read_tools(row.get("tools"), ("tools",))
    if not isinstance(label, bool):
        what = "missing" if label is None else f"{label!r:.40}"
        misshapen(BAD_LABEL, ("label",), what, "write true for an answer that is wanted, else false")
    talk = _talk(row)
    if talk is None:
        prompt = spoken(row.get("prompt"), ("prompt",), role="user")
        return Feedback(prompt, spoken(row.get("completion"), ("completion",), role="assistant"), label, tools)
    turns = read_turns(row[talk], (talk,))
    if turns[-1].role != "assistant":
        misshapen(NO_ANSWER, (talk, len(turns) - 1), "the last turn is no answer", "end with the answer that is judged")
    return Feedback(turns[:-1], turns[-1:], label, tools)


def place(row: Row, key: Key) -> Key:
    talk = _talk(row)
    if talk is None or key[0] not in ("prompt", "completion"):
        return place_in_parts(row, key)
    if len(key) == 1:
        return (talk,)
    index = len(row[talk]) - 1 if key[0] == "completion" else key[1]
    return source_key(row[talk], (talk,), (index, *key[2:]))


def _talk(row: Row) -> str | None:
    """Under which name the row has a conversation."""
    return next((name for name in ("messages", "conversations") if has(row, name)), None)


SHAPE = Shape(
    name="feedback",
    needs="prompt, completion and label",
    keys=frozenset({"prompt", "completion", "label", "messages", "conversations", "tools"}),
    turns=dict.fromkeys(
        (
            "prompt",
            "completion",
            "messages",
            "conversations",
        ),
        READ,
    ),
    looks_like=looks_like,
    convert=convert,
    place=place,
)
