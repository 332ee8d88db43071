"""`chosen` and `rejected`, each text, a message or messages; `prompt` beside them, or how both of them begin.

The prompt may also be `messages` or `conversations`. Where the answers repeat it, as in UltraFeedback, what they have
in common is the prompt.
"""

from rhapsode.core.yaml import Key
from rhapsode.corpus.examples.example import Messages, Preference
from rhapsode.corpus.examples.fault import NO_PROMPT, misshapen
from rhapsode.corpus.examples.shapes.completion import spoken
from rhapsode.corpus.examples.shapes.shape import Row, Shape, has
from rhapsode.corpus.examples.shapes.transcript import is_transcript, read_transcript
from rhapsode.corpus.examples.shapes.turns import READ, read_tools, read_turns, source_key
from rhapsode.text.chat import Message


def looks_like(row: Row) -> bool:
    return has(row, "chosen", "rejected")


def convert(row: Row) -> Preference:
    name = _prompt_name(row)
    chosen, rejected = (_side(row.get(side), (side,), is_alone=name is None) for side in ("chosen", "rejected"))
    common = _common(chosen, rejected)
    if name is None:
        if not common:
            mend = "add the field prompt, or begin both with it"
            misshapen(NO_PROMPT, ("chosen",), "begins otherwise than rejected, and there is no prompt", mend)
        prompt = common
    else:
        prompt = _prompt(row[name], (name,))
        if common and common[-len(prompt) :] == prompt:
            prompt = common
        else:
            common = ()
    tools = read_tools(row.get("tools"), ("tools",))
    return Preference(prompt, chosen[len(common) :], rejected[len(common) :], tools)


def place(row: Row, key: Key) -> Key:
    part, *rest = key
    if part == "tools":
        return key
    example, name = convert(row), _prompt_name(row)
    source = part
    if part == "prompt":
        source = name or "chosen"
    value = row[str(source)]
    if not rest or isinstance(value, str):
        return (source,)
    index = int(rest[0])
    if part != "prompt" and isinstance(value, list):
        index += len(value) - len(example.chosen if part == "chosen" else example.rejected)
    if isinstance(value, list) and index >= len(value):
        return (source,)
    return source_key(value, (source,), (index, *rest[1:]))


def _prompt_name(row: Row) -> str | None:
    return next((name for name in ("prompt", "messages", "conversations") if has(row, name)), None)


def _prompt(value: object, key: Key) -> Messages:
    """A transcript ends with the name of who is to speak."""
    if not (isinstance(value, str) and is_transcript(value)):
        return spoken(value, key, role="user")
    turns = read_transcript(value, key)
    return turns if turns[-1].content or len(turns) == 1 else turns[:-1]


def _side(value: object, key: Key, *, is_alone: bool) -> Messages:
    if isinstance(value, str):
        return read_transcript(value, key) if is_alone else (Message(role="assistant", content=value),)
    return read_turns(value, key)


def _common(first: Messages, second: Messages) -> Messages:
    """How both begin, at least one message of each left over."""
    num_common = 0
    while num_common < min(len(first), len(second)) - 1 and first[num_common] == second[num_common]:
        num_common += 1
    return first[:num_common]


SHAPE = Shape(
    name="preference",
    needs="chosen and rejected",
    keys=frozenset({"prompt", "messages", "conversations", "chosen", "rejected", "tools"}),
    turns=dict.fromkeys(
        (
            "prompt",
            "messages",
            "conversations",
            "chosen",
            "rejected",
        ),
        READ,
    ),
    looks_like=looks_like,
    convert=convert,
    place=place,
)
