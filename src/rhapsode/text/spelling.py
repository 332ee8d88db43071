"""How tokens are spelled in tokenizer.json, and the bytes they stand for.

Byte-level BPE writes each byte as one visible character (GPT-2's table): printable Latin-1 bytes stand for
themselves; the others, in order, become the characters from U+0100 on. SentencePiece writes text, with a mark where
the space is, and a byte that is no character as <0x0A>.
"""

from collections.abc import Mapping

from rhapsode.text.definition import Definition

_VISIBLE = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
_HIDDEN = [byte for byte in range(256) if byte not in _VISIBLE]
_UNUSED = dict.fromkeys(_HIDDEN, 0xFFFF)  # a hidden byte is never written as itself
_BYTE_LEVEL = _UNUSED | {0x100 + number: byte for number, byte in enumerate(_HIDDEN)}


def token_bytes(definition: Definition) -> dict[int, bytes]:
    """Token id -> the bytes it stands for, none for special tokens."""
    space = definition.space
    if space is None:
        spelled = {token: _visible_bytes(word) for word, token in definition.words.items()}
    else:
        spelled = {token: word.replace(space, " ").encode() for word, token in definition.words.items()}
        spelled |= {token: bytes([byte]) for byte, token in byte_ids(definition).items()}
    for token in definition.added:
        text = token.content if space is None else token.content.replace(space, " ")
        spelled[token.id] = b"" if token.is_special else text.encode()
    return spelled


def byte_ids(definition: Definition) -> dict[int, int]:
    """Byte -> the token that stands for it, whatever is around it. A vocabulary may lack some, or all."""
    words = definition.words
    if definition.space is None:
        alone = {_visible_bytes(word): token for word, token in words.items() if len(word) == 1}
        return {byte: alone[bytes([byte])] for byte in range(256) if bytes([byte]) in alone}
    names = {byte: f"<0x{byte:02X}>" for byte in range(256)} if definition.has_byte_words else {}
    return {byte: words[name] for byte, name in names.items() if name in words}


def respelled(content: str, definition: Definition, bytes_alone: Mapping[int, int]) -> list[int]:
    """`content` letter by letter, for text that must not become the token of that name."""
    if definition.space is None:
        return [bytes_alone[byte] for byte in content.encode() if byte in bytes_alone]
    ids = []
    for char in content.replace(" ", definition.space):
        if char != content and char in definition.words:
            ids.append(definition.words[char])
        else:
            ids += [bytes_alone[byte] for byte in char.encode() if byte in bytes_alone]
    return ids


def _visible_bytes(word: str) -> bytes:
    try:
        return word.translate(_BYTE_LEVEL).encode("latin-1")
    except UnicodeEncodeError:  # not in the table: other readers take it as it stands
        return word.encode()
