"""How byte-level BPE spells bytes in tokenizer.json: each byte is written as one visible character (GPT-2's table).

Printable Latin-1 bytes stand for themselves; the others, in order, become the characters from U+0100 on.
"""

from typing import Any

from rhapsode.core.errors import RhapsodeError

_VISIBLE = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
_HIDDEN = [byte for byte in range(256) if byte not in _VISIBLE]
BYTE_OF = {chr(byte): byte for byte in _VISIBLE} | {chr(0x100 + n): byte for n, byte in enumerate(_HIDDEN)}


def token_bytes(shape: dict[str, Any]) -> dict[int, bytes]:
    """Token id -> the bytes it stands for (none for special tokens), from a parsed tokenizer.json.

    Raises:
        RhapsodeError: the vocabulary is not byte-level BPE.
    """
    model, decoder = shape.get("model", {}), shape.get("decoder") or {}
    kinds = {decoder.get("type"), *(part["type"] for part in decoder.get("decoders", []))}
    if model.get("type") != "BPE" or "ByteLevel" not in kinds:
        raise RhapsodeError(
            "tokenizer.json is not byte-level BPE", "choose a model whose tokenizer is, not one with SentencePiece"
        )
    added = {token["id"]: b"" if token["special"] else token["content"].encode() for token in shape["added_tokens"]}
    words = {token: word for word, token in model["vocab"].items() if token not in added}
    return {token: bytes(BYTE_OF[char] for char in word) for token, word in words.items()} | added


def byte_spellings(spelled: dict[int, bytes]) -> list[int]:
    """Byte -> the id of the token that is that byte alone.

    Raises:
        RhapsodeError: a byte has no token, so that not every text could be encoded.
    """
    alone = {word[0]: token for token, word in spelled.items() if len(word) == 1}
    missing = [f"0x{byte:02x}" for byte in range(256) if byte not in alone]
    if missing:
        raise RhapsodeError(
            f"tokenizer.json has no token for the bytes {', '.join(missing[:8])}", "choose another tokenizer"
        )
    return [alone[byte] for byte in range(256)]
