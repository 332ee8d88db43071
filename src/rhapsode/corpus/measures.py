"""What the quality rules look at: numbers about a text, each cheap enough for every document of a large corpus.

`Body` keeps what several measures need. Shares are 0 for an empty text.
"""

import re
from functools import cached_property

_REPEATED_LEAST_CHARS = 10
_NGRAM_CHARS = 24
_NGRAM_LEAST_COUNT = 8
_ENCODED_CHARS = 200
_TOP_LINES = 12
_TOP_CHARS = 2000

_ASCII_ALPHANUMERIC = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
# Letters, marks (Indic and Thai vowels are marks) and digits outside ASCII, without punctuation, symbols and pictures.
_WIDE_ALPHANUMERIC = re.compile(
    "[\xaa\xb5\xba\xc0-\xd6\xd8-\xf6\xf8-\u1fff\u2c00-\u2dff\u3005-\u3007\u3040-\ud7ff"
    "\uf900-\ufdff\ufe70-\ufefe\uff10-\uff19\uff21-\uff3a\uff41-\uff5a\uff66-\uffdc"
    "\U00010000-\U0001efff\U00020000-\U0003ffff]+"
)
_C0_CONTROLS = bytes([*range(9), *range(14, 27), *range(28, 32), 127])
_C1_CONTROL = re.compile(rb"\xc2[\x80-\x84\x86-\x9f]")
_ASCII = bytes(range(128))
_PIECE = re.compile(f"(?s).{{{_ENCODED_CHARS // 2}}}")
_ENCODED = re.compile(f"[!-~]{{{_ENCODED_CHARS},}}")
_NGRAM = re.compile(f"(?s).{{{_NGRAM_CHARS}}}")
_LOREM = re.compile(r"lorem\s+ipsum", re.IGNORECASE)
# A sentence about generated code is no notice: most notices begin their line, or speak of "this file".
_GENERATED = re.compile(
    r"^[\W_]*(?:auto|machine)[- ]?generated\b"
    r"|^[\W_]*(?:automatically|mechanically) (?:generated|created|produced)\b"
    r"|\bthis (?:file|module|code|script|class) (?:is|was|has been) (?:\w+[- ])?generated\b"
    r"|\b(?:file|code) (?:auto-?)?generated (?:by|from|with)\b"
    r"|\bgenerated (?:by|from|with|using) (?:the )?['\"`]?"
    r"[\w./\\-]+\.(?:py|pl|sh|awk|txt|xml|json|ya?ml|proto|g4|def|in)\b"
    r"|\bgenerated (?:by|with) (?:the )?(?:protocol buffer compiler|swig|cython|antlr\d?|bison|flex|yacc|f2py|thrift)\b"
    r"|@generated\b"
    r"|\bdo not (?:manually )?(?:edit|modify)(?: this file| manually| by hand|[!.]? *$)",
    re.IGNORECASE | re.MULTILINE,
)
_DATA_LINE = re.compile(
    r"""^[ \t\[\](){},]*+                                                 # brackets
    (?>(?:[-+]?(?:0[xX][0-9a-fA-F_]+|[0-9][0-9_.eE+-]*)[uUlLfF]*          # numbers,
      |[bBuUrR]?'(?:(?:\\[xuU0-7][0-9a-fA-F]*)+|(?:\\.|[^'\\\n]){0,8})'   # escapes and very short strings,
      |[bBuUrR]?"(?:(?:\\[xuU0-7][0-9a-fA-F]*)+|(?:\\.|[^"\\\n]){0,8})")
     (?:[ \t,:;\[\](){}]++|(?=\n|\Z)))++                                 # one after another,
    (?:(?:\#|//|/\*).*+)?$                                               # and perhaps a comment
    """,
    re.MULTILINE | re.VERBOSE,
)


class Body:
    """A text and what is derived from it once."""

    def __init__(self, text: str) -> None:
        self.text = text

    @cached_property
    def data(self) -> bytes:
        return self.text.encode()

    @cached_property
    def lines(self) -> list[str]:
        """Stripped lines that are not empty."""
        return [line for line in map(str.strip, self.text.split("\n")) if line]

    @cached_property
    def squeezed(self) -> str:
        """The text with every run of spaces as one."""
        return " ".join(self.text.split())


def num_chars(body: Body) -> float:
    return len(body.text)


def replacement_share(body: Body) -> float:
    return 0.0 if body.text.isascii() else body.text.count("\ufffd") / len(body.text)


def control_share(body: Body) -> float:
    c0 = len(body.data) - len(body.data.translate(None, _C0_CONTROLS))
    c1 = len(_C1_CONTROL.findall(body.data)) if b"\xc2" in body.data else 0
    return _share(c0 + c1, body)


def encoded_share(body: Body) -> float:
    """Characters in long runs of ASCII without a space. Such a run fills at least one piece of half its length."""
    if all(" " in piece for piece in _PIECE.findall(body.squeezed)):
        return 0.0
    return _share(sum(map(len, _ENCODED.findall(body.text))), body)


def alphanumeric_share(body: Body) -> float:
    """Among the characters that are not spaces."""
    visible = len(body.squeezed) - body.squeezed.count(" ")
    found = len(body.data) - len(body.data.translate(None, _ASCII_ALPHANUMERIC))
    if not body.text.isascii():
        wide = body.data.translate(None, _ASCII).decode()
        found += sum(map(len, _WIDE_ALPHANUMERIC.findall(wide)))
    return found / visible if visible else 0.0


def longest_line(body: Body) -> float:
    return max(map(len, body.lines), default=0)


def mean_line(body: Body) -> float:
    return sum(map(len, body.lines)) / len(body.lines) if body.lines else 0.0


def repeated_line_share(body: Body) -> float:
    """Characters in lines that occurred before; lines too short to mean anything do not count."""
    lines = [line for line in body.lines if len(line) >= _REPEATED_LEAST_CHARS]
    distinct = set(lines)
    if len(distinct) == len(lines):
        return 0.0
    total = sum(map(len, lines))
    return (total - sum(map(len, distinct))) / total


def repeated_ngram_share(body: Body) -> float:
    """Character n-grams cut side by side: a phrase of p characters repeated gives at most p different ones.

    Cheaper than every n-gram of words, and it sees what makes training unstable: one phrase over and over.
    """
    ngrams = _NGRAM.findall(body.squeezed)
    return 1 - len(set(ngrams)) / len(ngrams) if len(ngrams) >= _NGRAM_LEAST_COUNT else 0.0


def lorem_ipsum_share(body: Body) -> float:
    if not _LOREM.search(body.text):
        return 0.0
    total = sum(map(len, body.lines))
    return sum(len(line) for line in body.lines if _LOREM.search(line)) / total


def generated_notices(body: Body) -> float:
    """Notices at the top of a file that a program wrote it."""
    top = "\n".join(body.text[:_TOP_CHARS].split("\n")[:_TOP_LINES])
    return len(_GENERATED.findall(top))


def data_line_share(body: Body) -> float:
    """Lines that are nothing but literals, among those that are not empty."""
    return len(_DATA_LINE.findall(body.text)) / len(body.lines) if body.lines else 0.0


def _share(count: int, body: Body) -> float:
    return count / len(body.text) if body.text else 0.0
