"""Repair of Unicode: what was damaged on the way is put right, what an author meant is left alone.

Prose: line ends become "\\n", mojibake is undone line by line (ftfy, only where a line looks garbled), control
characters and terminal escapes go, ligatures from typesetting become letters, and the text is brought to NFC. Quotes,
widths and HTML entities stay: they are choices. Code: only the byte order mark and carriage returns before a line feed
go, since every other character may stand inside a string literal.
"""

import re
import unicodedata

from rhapsode.corpus.documents import Kind

_CONTROL = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f\ufeff\ufff9-\ufffb\u206a-\u206f]")
_C0_CONTROLS = bytes([*range(9), 11, *range(14, 32), 127])
_ODD_CONTROL = re.compile(rb"\xc2[\x80-\x9f]|\xef\xbb\xbf|\xef\xbf[\xb9-\xbb]|\xe2\x81[\xaa-\xaf]")
_ASCII = bytes(range(128))
_LIGATURE = re.compile("[\ufb00-\ufb06]")
# Mojibake shows as letters of a one-byte encoding beside other non-ASCII characters, or as one of three lead letters.
_SUSPECT = re.compile("[\x80-\u04ff][^\x00-\x7f]|[^\x00-\x7f][\x80-\u04ff]|[\xc3\xc2\xe2]")
# The same in UTF-8, and a first look: no lead byte of U+0080..U+04FF, no suspect.
_SUSPECT_BYTES = re.compile(rb"[\xc2-\xd3][\x80-\xbf][\xc2-\xf4]|[\x80-\xbf][\xc2-\xd3]|\xc3[\x82\x83\xa2]")
_LEAD_BYTE = re.compile(rb"[\xc2-\xd3]")
_LONGEST_LINE = 100_000


def repair(text: str, *, kind: Kind) -> str:
    """The text as it should have been."""
    if kind == "code":
        return text.removeprefix("\ufeff").replace("\r\n", "\n")
    text = _line_ends(text)
    if not text.isascii() and _is_suspect(text):
        text = _undo_mojibake(text)
    if _has_control(text):
        from ftfy import fixes

        text = fixes.remove_control_chars(fixes.fix_c1_controls(fixes.remove_terminal_escapes(text)))
        text = _CONTROL.sub("", text)
    if text.isascii():
        return text
    if _LIGATURE.search(text):
        from ftfy import fixes

        text = fixes.fix_latin_ligatures(text)
    return text if unicodedata.is_normalized("NFC", text) else unicodedata.normalize("NFC", text)


def encodable(text: str) -> str:
    """Surrogate pairs joined and lone surrogates replaced: JSON can spell what UTF-8 cannot hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _line_ends(text: str) -> str:
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text if text.isascii() else text.replace("\u2028", "\n").replace("\u2029", "\n")


def _has_control(text: str) -> bool:
    """Looks at bytes, which is several times faster than a class of characters."""
    data = text.encode()
    return len(data.translate(None, _C0_CONTROLS)) < len(data) or bool(
        not text.isascii() and _ODD_CONTROL.search(data.translate(None, _ASCII))
    )


def _is_suspect(text: str) -> bool:
    data = text.encode()
    return bool(_LEAD_BYTE.search(data.translate(None, _ASCII)) and _SUSPECT_BYTES.search(data))


def _undo_mojibake(text: str) -> str:
    """Only lines with suspect neighbours are looked at closely: the close look is slow."""
    pieces = []
    done = 0
    while match := _SUSPECT.search(text, done):
        start = max(text.rfind("\n", done, match.start()) + 1, done, match.start() - _LONGEST_LINE)
        end = text.find("\n", match.end(), match.end() + _LONGEST_LINE)
        end = min(match.end() + _LONGEST_LINE, len(text)) if end < 0 else end
        pieces += [text[done:start], _fix(text[start:end])]
        done = end
    return "".join([*pieces, text[done:]]) if pieces else text


def _fix(line: str) -> str:
    import ftfy
    from ftfy.badness import is_bad

    if not is_bad(line):
        return line
    config = ftfy.TextFixerConfig(unescape_html=False, explain=False)
    return ftfy.fix_encoding(line, config)
