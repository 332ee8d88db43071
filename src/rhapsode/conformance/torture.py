"""Two thousand strings on which tokenizers disagree, if they disagree at all.

They are made, not collected: the same tokenizer always gives the same strings. Every one is valid Unicode text without
lone surrogates, since readers that take UTF-8 could not be given anything else.
"""

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from random import Random

from rhapsode.conformance import scripts, snippets
from rhapsode.text.tokenizer import Tokenizer

NUM_STRINGS = 2000
SEED = 20_000
MOST_SPECIAL = 40
"""Some vocabularies have thousands of special tokens that stand for nothing yet; so many are enough."""
LONGEST_NAME = 64
LONGEST_MIXTURE = 400
FOREIGN_SPECIAL = (
    *("<s>", "</s>", "<unk>", "<pad>", "<bos>", "<eos>", "[INST]", "[/INST]", "<<SYS>>", "[CLS]", "[SEP]", "[MASK]"),
    *("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<start_of_turn>", "<end_of_turn>", "<0x0A>", "▁"),
)


def torture_strings(tokenizer: Tokenizer) -> list[str]:
    """Exactly `NUM_STRINGS` different strings; those that look like special tokens look like this tokenizer's."""
    draw = _Draw(SEED)
    found = dict.fromkeys(_look_alikes(_Draw(SEED + 1), special_names(tokenizer)))
    for kind in (_spaces, _writing, _emoji, _piled_marks, _controls, _code, _prose, _unusual, _repeated):
        found |= dict.fromkeys(kind(draw))
    fixed = list(found)
    while len(found) < NUM_STRINGS:
        found["".join(draw.some(fixed, 2, 4))[:LONGEST_MIXTURE]] = None
    return list(found)


def special_names(tokenizer: Tokenizer) -> list[str]:
    """How the special tokens of a tokenizer are spelled, at most `MOST_SPECIAL` spread over all of them."""
    names = [name for name in tokenizer.special_names if len(name) <= LONGEST_NAME]
    step = -(-len(names) // MOST_SPECIAL) or 1
    return names[::step]


class _Draw:
    """Choices that are the same on every machine and version: only `Random.random` promises that."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    def number(self, low: int, high: int) -> int:
        return low + int(self._random.random() * (high - low + 1))

    def one(self, values: Sequence[str]) -> str:
        return values[self.number(0, len(values) - 1)]

    def some(self, values: Sequence[str], low: int, high: int) -> list[str]:
        return [self.one(values) for _ in range(self.number(low, high))]

    def text(self, values: Sequence[str], low: int, high: int) -> str:
        return "".join(self.some(values, low, high))


Kind = Callable[[_Draw], Iterator[str]]


def _spaces(draw: _Draw) -> Iterator[str]:
    marks = (" ", "\t", "\n", "\r\n", "\r", "\v", "\f")
    yield from ("", *marks)
    for count in (2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64, 100):
        yield from (mark * count for mark in marks[:4])
        yield " " * count + "x"
        yield "x" + " " * count
        yield "x" + "\n" * count + "y"
    for _ in range(60):
        yield "".join(draw.one(snippets.WORDS) + draw.text(marks, 0, 4) for _ in range(4))
        yield draw.text((*scripts.SPACES, *marks), 1, 9) + draw.one(snippets.WORDS) + draw.text(scripts.SPACES, 0, 3)


def _writing(draw: _Draw) -> Iterator[str]:
    for script in scripts.RANGES:
        letters = scripts.letters(script)
        for _ in range(14):
            words = [draw.text(letters, 1, 9) for _ in range(draw.number(1, 6))]
            yield draw.one((" ", "", ", ", "-", "\n")).join(words) + draw.one(("", ".", "!", " "))
        yield draw.text(letters, 3, 12) + draw.one(snippets.WORDS) + draw.text(letters, 3, 12)


def _emoji(draw: _Draw) -> Iterator[str]:
    yield from scripts.EMOJI
    for _ in range(40):
        yield draw.text(scripts.EMOJI, 2, 9)
        yield scripts.JOINER.join(person + draw.one(("", *scripts.SKINS)) for person in draw.some(scripts.PEOPLE, 2, 4))
        yield draw.text(scripts.FLAG_LETTERS, 1, 6) + draw.one(("", " ", "x"))
    for char in (*"#*059", "☂", "⌨", "♟"):
        yield char + scripts.EMOJI_STYLE + scripts.KEYCAP
        yield f"a{char}{scripts.EMOJI_STYLE}b {char}\ufe0e"


def _piled_marks(draw: _Draw) -> Iterator[str]:
    for _ in range(60):
        word = draw.one(("zalgo", "he comes", "text", "Ω", "й", "क", "e", "1", " "))
        yield "".join(char + draw.text(scripts.MARKS, 1, 12) for char in word)
    for word in snippets.COMPOSED:
        for form in ("NFC", "NFD", "NFKC", "NFKD"):
            yield unicodedata.normalize(form, word)


def _controls(draw: _Draw) -> Iterator[str]:
    yield from scripts.CONTROLS
    for char in (*scripts.CONTROLS[::4], *scripts.INVISIBLE):
        yield f"a{char}b"
        yield f" {char} {char}"
    for _ in range(30):
        yield draw.text(scripts.CONTROLS, 2, 8)
        yield draw.one(snippets.WORDS) + draw.text(scripts.INVISIBLE, 1, 4) + draw.one(snippets.WORDS)


def _code(draw: _Draw) -> Iterator[str]:
    for snippet in snippets.CODE:
        yield snippet
        yield snippet.replace("    ", "\t")
        yield snippet.replace("\n", "\r\n")
        yield snippet.replace(" ", "")
        for _ in range(5):
            start = draw.number(0, len(snippet) - 2)
            yield snippet[start : start + draw.number(2, 40)]


def _prose(draw: _Draw) -> Iterator[str]:
    for sentence in snippets.PROSE:
        yield from (sentence, " " + sentence, sentence.upper(), sentence.lower(), sentence[::-1], sentence + "\n")
    yield from (*snippets.NUMBERS, *snippets.NUMBERS_ELSEWHERE, *snippets.PUNCTUATION, *snippets.WORDS)
    yield from (" " + word for word in snippets.WORDS)
    for contraction in snippets.CONTRACTIONS:
        yield draw.one(snippets.WORDS) + contraction
        yield f"{draw.one(snippets.WORDS)}{contraction} {contraction}{draw.one(snippets.WORDS)}"
    pieces = (*snippets.NUMBERS, *snippets.NUMBERS_ELSEWHERE, *snippets.PUNCTUATION, *snippets.WORDS, " ", " ", " ")
    for _ in range(130):
        yield draw.text(pieces, 2, 8)


def _unusual(draw: _Draw) -> Iterator[str]:
    for char in scripts.UNUSUAL:
        yield char
        yield f"a{char} b"
    for _ in range(40):
        yield "".join(chr(_any_code(draw)) for _ in range(draw.number(1, 8)))


def _any_code(draw: _Draw) -> int:
    """Any character of the 17 planes; surrogates are none."""
    code = draw.number(0x80, 0x10FFFF)
    return code if not 0xD800 <= code <= 0xDFFF else code - 0x800


def _repeated(draw: _Draw) -> Iterator[str]:
    for piece in ("a", " a", "ab", "-", "=", "A", "1", "é", "字", "🔥", "\n ", "the ", "▁", "Ġ", "\\", "<"):
        yield from (piece * count for count in (5, 50, 300))
    for _ in range(10):
        yield draw.one(snippets.WORDS) * draw.number(3, 12)


def _look_alikes(draw: _Draw, names: Sequence[str]) -> Iterator[str]:
    """What is spelled as a special token, or nearly, in a user's text."""
    for name in dict.fromkeys((*names, *FOREIGN_SPECIAL)):
        yield name
        yield f"a {name} b"
        yield f"{name}{draw.one(names or FOREIGN_SPECIAL)}\n{name[:-1]}"
        yield draw.one((name.upper(), name[1:], name[:1] + " " + name[1:], name.replace("_", ""), name + ">"))
