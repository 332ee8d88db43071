"""Text while it is being generated: a token may end inside a character, and a reader must never see half of one."""

import codecs

from rhapsode.text.tokenizer import Tokenizer


class TextStream:
    """Feed ids, take text. What `push` and `finish` give, joined, is `Tokenizer.decode` of all ids."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        """The characters that `token` completes. Bytes that can be no character become U+FFFD."""
        return self._decoder.decode(self._tokenizer.token_bytes(token))

    def finish(self) -> str:
        """What is left: U+FFFD where the last character was cut short. The stream can be used again."""
        rest = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return rest
