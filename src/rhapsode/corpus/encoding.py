"""Bytes to text: what the bytes say of themselves goes before what can be guessed.

Byte order mark, then UTF-8 taken strictly, then a declaration in the file (PEP 263, `<meta charset>`, `<?xml
encoding?>`), then UTF-8 with a few damaged bytes, then charset-normalizer. A wrong guess garbles a whole file without a
word, so anything but UTF-8 is written down in the document's meta.
"""

import codecs
import re
from typing import NamedTuple

from rhapsode.corpus.readers.record import ReadError

BINARY = "binary"
UNKNOWN_ENCODING = "unknown encoding"

# UTF-32 first: its little-endian mark begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_MAGIC = (b"%PDF-", b"\x7fELF", b"PK\x03\x04", b"\x89PNG", b"\xff\xd8\xff", b"\x1f\x8b")
_DECLARATIONS = {
    "py": re.compile(rb"\A(?:[^\n]*\n)?[ \t\f]*#[^\n]*?coding[:=][ \t]*([-\w.]+)"),
    "html": re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([-\w.:]+)""", re.IGNORECASE),
    "xml": re.compile(rb"""\A\s*<\?xml[^>]{0,200}?encoding\s*=\s*["']([-\w.:]+)"""),
}
_SUFFIXES = {"pyw": "py", "pyi": "py", "pyx": "py", "htm": "html", "xhtml": "html", "xsd": "xml", "xsl": "xml"}
_HIGH = re.compile(rb"[^\n]{0,200}[\x80-\xff][^\n]{0,200}")
_MULTIBYTE = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
_HEAD = 8192
_SAMPLE = 32768
_SEEN = 1 << 20
_DAMAGED_FEW = 20
_MOSTLY = 0.1
_ASCII = bytes(range(128))


class Decoded(NamedTuple):
    """`encoding` is "utf-8" unless something else, or a repair, was needed."""

    text: str
    encoding: str


def decode(data: bytes, *, name: str) -> Decoded:
    """The text of a whole file.

    Raises:
        ReadError: it is binary, or no encoding fits.
    """
    mark = _mark(data)
    if mark == "":
        if b"\0" not in data:
            _refuse_binary(data)
            try:
                return Decoded(data.decode(), "utf-8")
            except UnicodeDecodeError:
                pass
        mark = guess(data, name=name)
    if mark == "utf-8-sig":
        return Decoded(data[len(codecs.BOM_UTF8) :].decode("utf-8", "replace"), "utf-8")
    text = data.decode(mark, "replace")
    return Decoded(text, f"{mark}, damaged" if "\ufffd" in text else mark)


def sniff(head: bytes, *, name: str) -> str:
    """The encoding of a file that is read piece by piece, from its beginning.

    Raises:
        ReadError: it is binary, or no encoding fits.
    """
    if mark := _mark(head):
        return mark
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head, final=False)
    except UnicodeDecodeError:
        return guess(head, name=name)
    # A row may well hold a stray zero.
    if head.startswith(_MAGIC) or head.count(0) > 1 + len(head) // 100:
        raise ReadError(BINARY)
    return "utf-8"


def guess(data: bytes, *, name: str) -> str:
    """The encoding of bytes that are not plain UTF-8."""
    if wide := _wide(data):
        return wide
    _refuse_binary(data)
    if declared := _declared(data, name=name):
        return declared
    if _is_damaged_utf8(data):
        return "utf-8"
    # Loaded here: it is slow to import and most files never need it.
    import charset_normalizer

    sample = b"\n".join(match[0] for match in _some(data))
    encodings = (match.encoding for match in charset_normalizer.from_bytes(sample))
    if best := next(filter(_holds_ascii, encodings), ""):
        return best
    seen = data[:_SEEN]
    if len(seen.translate(None, _ASCII)) > _MOSTLY * len(seen):
        raise ReadError(UNKNOWN_ENCODING)
    return "utf-8"


def _mark(data: bytes) -> str:
    return next((encoding for mark, encoding in _MARKS if data.startswith(mark)), "")


def _wide(data: bytes) -> str:
    """UTF-16 without a mark: Latin text with a zero in every second byte."""
    head = data[:_HEAD]
    if len(head) >= 4 and head.count(0) > 0.3 * len(head):
        if not any(head[0::2]):
            return "utf-16-be"
        if head[0::2].count(0) == 0 and not any(head[1::2]):
            return "utf-16-le"
    return ""


def _refuse_binary(data: bytes) -> None:
    head = data[:_HEAD]
    if b"\0" in head or head.startswith(_MAGIC):
        raise ReadError(BINARY)


def _declared(data: bytes, *, name: str) -> str:
    suffix = name.rpartition(".")[2].lower()
    pattern = _DECLARATIONS.get(_SUFFIXES.get(suffix, suffix))
    match = pattern.search(data[:1024]) if pattern else None
    if match is None:
        return ""
    try:
        encoding = codecs.lookup(match[1].decode("ascii")).name
        data[:_SEEN].decode(encoding)
    except (LookupError, UnicodeError):
        return ""
    return encoding


def _is_damaged_utf8(data: bytes) -> bool:
    """Mostly valid multi-byte sequences and a few bytes that are not: UTF-8 that went through something."""
    seen = data[:_SEEN]
    valid = sum(1 for _ in _MULTIBYTE.finditer(seen))
    broken = seen.decode("utf-8", "replace").count("\ufffd") - seen.count("\ufffd".encode())
    return valid > _DAMAGED_FEW * broken or (broken <= 1 and valid > 0)


def _holds_ascii(encoding: str) -> bool:
    """Guessing from few bytes, a detector may well propose EBCDIC or UTF-7."""
    return _ASCII[32:127].decode(encoding, "replace") == _ASCII[32:127].decode()


def _some(data: bytes) -> list[re.Match[bytes]]:
    """Pieces around bytes that are not ASCII, enough of them to judge."""
    found: list[re.Match[bytes]] = []
    size = 0
    for match in _HIGH.finditer(data):
        found.append(match)
        size += len(match[0])
        if size > _SAMPLE:
            break
    return found
