"""Conversations written as one text, as in hh-rlhf: a blank line, "Human:" or "Assistant:", and what is said."""

import re

from rhapsode.core.yaml import Key
from rhapsode.corpus.examples.example import Messages
from rhapsode.corpus.examples.fault import NO_PROMPT, misshapen
from rhapsode.text.chat import Message, Role

_TURN = re.compile(r"\n\n(Human|Assistant):")
_ROLES: dict[str, Role] = {"Human": "user", "Assistant": "assistant"}


def is_transcript(text: str) -> bool:
    return text.startswith(("\n\nHuman:", "\n\nAssistant:"))


def read_transcript(text: str, key: Key) -> Messages:
    """The turns, without the space that stands behind a name and what is blank at the end.

    Raises:
        Misshapen: nobody is named at its beginning.
    """
    if not is_transcript(text):
        mend = 'add the field prompt, or write "\\n\\nHuman: ...\\n\\nAssistant: ..."'
        misshapen(NO_PROMPT, key, "an answer without what it answers", mend)
    _, *parts = _TURN.split(text)
    return tuple(
        Message(role=_ROLES[name], content=said.removeprefix(" ").rstrip())
        for name, said in zip(parts[::2], parts[1::2], strict=True)
    )
