"""What the evidence of a model asks about: a few texts and conversations on which readers part ways.

They are a handful because every model carries them and every checkpoint of a run makes them anew. The words of the
vocabulary itself are among them, so that a tokenizer of any language has its own merges put to the test.
"""

from collections.abc import Iterator
from typing import NamedTuple

from rhapsode.conformance.torture import special_names
from rhapsode.core.errors import RhapsodeError
from rhapsode.text.chat import Message
from rhapsode.text.tokenizer import Tokenizer

NUM_WORDS = 48
LONGEST_WORD = 24
LONGEST_FORGERY = 400


class Asked(NamedTuple):
    """A text or a conversation, before it has ids; `is_spoken` asks for greedy text too, which takes the longest."""

    text: str | None
    messages: tuple[Message, ...] = ()
    is_look_alike: bool = False
    is_spoken: bool = False


SPOKEN = (
    "The rhapsode sang of the wine-dark sea, and",
    " It's a space before, and two  within; isn't it?",
    "def double(x: int) -> int:\n    return 2 * x  # twice\n\n\nprint(double(",
    "Άνδρα μοι έννεπε, Μούσα. Скажи мне, муза, о том",  # noqa: RUF001 - they look alike and are not
)
READ = (
    "",
    "a",
    "\tTabs\tand\nlines\r\n\n\n   end here  ",
    "On 2024-02-29 at 07:05 it cost €1,234.56 (12345678 x 9), i.e. 100%!!! https://example.org/a?b=1",
    "👩‍🚀🏽🇬🇷👨‍👩‍👧❤️‍🔥 #️⃣ 🧵🪶",
    "天地玄黄、宇宙洪荒。ひらがなとカタカナ 하늘 천 땅 지",
    "في البدء كانت الكلمة، ועל כן יעזב איש",
    "एक समय की बात है กาลครั้งหนึ่งนานมาแล้ว ஒரு காலத்தில்",
    "Z̷̢̛a̸͎͝l̶̰̈g̴̺̊o e\u0301 ﬁ Å ｆｕｌｌ \u00ad\u200b\u2060",  # noqa: RUF001 - they look alike and are not
    "\x00\x01\x1b\x7f\ufeff\ufffd\U00012345\U0010ffff\ue000",
)


def questions(tokenizer: Tokenizer) -> Iterator[Asked]:
    """Every case, in the order in which the evidence has them."""
    yield from (Asked(text, is_spoken=True) for text in SPOKEN)
    yield from (Asked(text) for text in (*READ, _words(tokenizer, parted=""), _words(tokenizer, parted=" ")))
    forged = _forged(tokenizer)
    if forged:
        yield Asked(forged, is_look_alike=True)
    if tokenizer.has_chat_template:
        yield from _conversations(forged)


def _conversations(forged: str) -> Iterator[Asked]:
    system = Message(role="system", content="Answer in one line.")
    first = Message(role="user", content="  Who was a rhapsode?\n")
    answer = Message(role="assistant", content="One who recited by heart.")
    second = Message(role="user", content="Und auf Griechisch: ραψῳδός? 🎶")
    for messages in ((first,), (system, first), (first, answer, second)):
        yield Asked(None, messages, is_spoken=True)
    if forged:
        yield Asked(None, (Message(role="user", content=f"Repeat: {forged}"),), is_look_alike=True)


def _forged(tokenizer: Tokenizer) -> str:
    """Text that is spelled like special tokens: those with a meaning first, one of the others."""
    ids = dict.fromkeys((tokenizer.bos, tokenizer.end_of_turn, tokenizer.eos))
    names = dict.fromkeys(tokenizer.show(token) for token in ids if not tokenizer.token_bytes(token))
    return " x ".join([*names, *special_names(tokenizer)[-1:]])[:LONGEST_FORGERY]


def _words(tokenizer: Tokenizer, *, parted: str) -> str:
    """Tokens spread over the whole vocabulary, as a text."""
    step = max(1, tokenizer.vocab_size // NUM_WORDS)
    found = (_word(tokenizer, token) for token in range(step - 1, tokenizer.vocab_size, step))
    return parted.join(word for word in found if word)


def _word(tokenizer: Tokenizer, token: int) -> str:
    """A token's text; nothing if it is no whole characters, or a hole in the vocabulary."""
    try:
        word = tokenizer.token_bytes(token).decode()
    except (UnicodeDecodeError, RhapsodeError):
        return ""
    return word[:LONGEST_WORD]
