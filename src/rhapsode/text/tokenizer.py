"""Text to token ids and back: byte-pair encoding that forges nothing.

Special tokens exist only as ids: `encode` reads "<|im_end|>" as ordinary characters, so no document and no user can
end a turn or open a system message. The files are those of the Hugging Face ecosystem; `AutoTokenizer` reads them and
gives the same ids.

What comes back: the vocabularies that are trained here say any bytes and give them back. Others may compose letters
(NFC), lack a byte, or, as SentencePiece does, put a space before a text (`lead`) and read "▁" as a space; everything
else comes back, and `is_lossless` says whether all does. Where a vocabulary has no token for a byte, bytes that are
not UTF-8 become U+FFFD.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from functools import cached_property
from itertools import takewhile
from typing import TYPE_CHECKING

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

from rhapsode.core.errors import RhapsodeError
from rhapsode.text import library
from rhapsode.text.blocks import groups, line_blocks, runs, training_pieces
from rhapsode.text.chatml import CHATML, END_OF_TURN, START_OF_TURN
from rhapsode.text.definition import read_definition
from rhapsode.text.extension import taken_words
from rhapsode.text.files import TokenizerFiles, read_files, write_files
from rhapsode.text.markup import Markup
from rhapsode.text.spelling import byte_ids, respelled, token_bytes
from rhapsode.text.stages import SPLIT, cuts_at_lines, is_faithful, starts_with_space, without_start
from rhapsode.text.words import Words

if TYPE_CHECKING:
    from pathlib import Path

BOS, EOS, PAD = "<|begin_of_text|>", "<|end_of_text|>", "<|pad|>"
SPECIAL_TOKENS = (BOS, EOS, PAD, START_OF_TURN, END_OF_TURN)
SMALLEST_VOCABULARY = len(SPECIAL_TOKENS) + 256
_ENDS_OF_TURN = (END_OF_TURN, "<|eot_id|>", "<end_of_turn>", "<|end|>")


class Tokenizer:
    """A trained vocabulary: `encode`, `decode_bytes`, and the ids that have a meaning of their own.

    A vocabulary from elsewhere may lack some of these ids; then `eos` stands in for `bos`, `pad` and `end_of_turn`.
    `names` holds the tokens that have a role, as bos_token or eos_token, and `chat_template` jinja, or nothing.
    `prefix` is what stands before every text, the id of bos or nothing; `lead`, the space that some put there besides.
    `rows_needed` is how many rows an embedding must have for every text: Gemma 3 has one id more, for pictures.
    """

    def __init__(self, source: str, *, names: Mapping[str, str], chat_template: str) -> None:
        """Read `source`, the text of a tokenizer.json.

        Args:
            names: the tokens that have a role: eos_token, and bos_token, pad_token, unk_token where there are such.
            chat_template: how the model writes a conversation, in jinja; empty if it knows none.

        Raises:
            RhapsodeError: it is damaged, it is of another kind, or a token named for bos, eos or pad is not in it.
        """
        if "eos_token" not in names:
            raise RhapsodeError("the tokenizer names no eos_token", "add the key eos_token to tokenizer_config.json")
        definition = read_definition(source).with_special(names.values())
        self.names, self.chat_template = dict(names), chat_template
        self._backend = self._inner = library.load(source, definition)
        self._source = source.encode()  # the text may have 35 million characters of four bytes each
        self.lead = b""
        if starts_with_space(definition):
            stages = (without_start(definition.normalizer), without_start(definition.pre_tokenizer))
            self._inner, self.lead = library.with_stages(self._backend, *stages), b" "
        self._bytes, self._byte_ids = token_bytes(definition), byte_ids(definition)
        self._space, self._taken = definition.space, taken_words(definition)
        self._special = {token.content: token.id for token in definition.added if token.is_special}
        self._respelled = {
            token: respelled(name, definition, self._byte_ids) for name, token in definition.forgeable().items()
        }
        self._is_cut_at_lines = cuts_at_lines(definition)
        self.is_lossless = len(self._byte_ids) == 256 and is_faithful(definition)
        self.vocab_size: int = max(self._bytes) + 1
        self.eos = self.special(names["eos_token"])
        self.bos, self.pad = (self.special(names.get(key, names["eos_token"])) for key in ("bos_token", "pad_token"))
        self.end_of_turn = self._end_of_turn()
        self.prefix = self._prefix()
        roles = {*self.prefix, self.bos, self.eos, self.end_of_turn}
        self.rows_needed = 1 + max({*self._bytes} - {*self._special.values()} | roles)

    @classmethod
    def load(cls, directory: Path) -> Tokenizer:
        """The tokenizer of a Hugging Face model directory."""
        files = read_files(directory)
        return cls(files.source, names=files.names, chat_template=files.chat_template)

    def save(self, directory: Path, *, model_max_length: int | None = None) -> None:
        """Write the files that other readers expect; the same tokenizer always gives the same bytes."""
        files = TokenizerFiles(self._source.decode(), self.names, self.chat_template)
        write_files(directory, files, model_max_length=model_max_length)

    @property
    def has_chat_template(self) -> bool:
        return bool(self.chat_template)

    @property
    def special_names(self) -> Set[str]:
        """How special tokens are spelled."""
        return self._special.keys()

    @property
    def vocabulary(self) -> Mapping[str, int]:
        """Every token as tokenizer.json spells it, and its id."""
        found: dict[str, int] = self._backend.get_vocab(with_added_tokens=True)
        return found

    def encode(self, text: str | bytes) -> list[int]:
        """The ids of `text` alone; never a special one. Bytes that are not UTF-8 become one token each."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str | bytes]) -> list[list[int]]:
        """`encode` of each text, in parallel."""
        pieces = [
            (index, self._inner if number else self._backend, piece)
            for index, text in enumerate(texts)
            for number, piece in enumerate(self._pieces(text))
        ]
        encoded = {
            backend: self._encode_blocks(backend, [p for _, b, p in pieces if b is backend and isinstance(p, str)])
            for backend in (self._backend, self._inner)
        }
        result: list[list[int]] = [[] for _ in texts]
        for index, backend, piece in pieces:
            if isinstance(piece, bytes):
                result[index] += [self._byte_ids[byte] for byte in piece]
            else:
                result[index] += next(encoded[backend])
        return result

    def ids(self, text: str | bytes) -> list[int]:
        """A document's beginning: `prefix`, for us the id of bos, and `encode(text)`. What `AutoTokenizer` gives.

        What a post-processor puts behind a text is left out, for the text goes on.
        """
        return self.prefix + self.encode(text)

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The exact bytes. Special tokens contribute nothing; a text that begins here begins with `lead`."""
        return b"".join(map(self.token_bytes, ids))

    def decode(self, ids: Iterable[int], *, errors: str = "replace") -> str:
        return self.decode_bytes(ids).decode("utf-8", errors)

    def token_bytes(self, token: int) -> bytes:
        """The bytes that `token` stands for, b"" for a special token."""
        try:
            return self._bytes[token]
        except KeyError:
            raise RhapsodeError(
                f"there is no token {token} in this vocabulary of {self.vocab_size}",
                "use the tokenizer that lies beside the model",
            ) from None

    def show(self, token: int) -> str:
        """A token for people to read: its text, or the name of a special token."""
        return self.decode([token]) or str(self._backend.id_to_token(token))

    def special(self, name: str) -> int:
        """The id of the token spelled `name`."""
        token: int | None = self._backend.token_to_id(name)
        if token is None:
            raise RhapsodeError(f"tokenizer.json has no token {name!r}", "correct its name in tokenizer_config.json")
        return token

    @property
    def source(self) -> str:
        """The text of its tokenizer.json."""
        return self._source.decode()

    @property
    def taken_words(self) -> Set[str]:
        """How those tokens are spelled that are found before anything is joined."""
        return self._taken

    @cached_property
    def words(self) -> Words:
        """What is joined within."""
        apart = {str(self._backend.id_to_token(token)) for token in self._byte_ids.values()} if self._space else set()
        return Words(self._inner, space=self._space, apart=apart | self._taken)

    @cached_property
    def markup(self) -> Markup:
        """Reads what a chat template wrote."""
        return Markup(self._backend, special=self._special, respelled=self._respelled, vocab_size=self.vocab_size)

    def _pieces(self, text: str | bytes) -> Iterator[str | bytes]:
        """Valid text as str, in blocks where they change no id; other bytes as bytes, if they have tokens."""
        for run in runs(text):
            if isinstance(run, bytes):
                yield run if self._byte_ids.keys() >= set(run) else "\ufffd" * len(run)
            elif self._is_cut_at_lines:
                yield from line_blocks(run)
            else:
                yield run

    def _encode_blocks(self, backend: tokenizers.Tokenizer, blocks: Sequence[str]) -> Iterator[list[int]]:
        for group in groups(blocks):
            with library.guarded("the text cannot be encoded", "look at the expressions in tokenizer.json"):
                encodings = backend.encode_batch_fast(group, add_special_tokens=False)
            for encoding in encodings:
                yield self._unforged(encoding.ids)

    def _unforged(self, ids: list[int]) -> list[int]:
        """`ids`, in which letters stand for what would be a special token."""
        if self._respelled.keys().isdisjoint(ids):
            return ids
        return [part for token in ids for part in self._respelled.get(token, [token])]

    def _prefix(self) -> list[int]:
        """What the post-processor puts before a text."""
        with library.guarded("tokenizer.json is damaged"):
            encoding = self._backend.encode("a", add_special_tokens=True)
        added = takewhile(lambda pair: pair[1], zip(encoding.ids, encoding.special_tokens_mask, strict=True))
        prefix = [token for token, _ in added]
        self.decode_bytes(prefix)
        return prefix

    def _end_of_turn(self) -> int:
        named = [name for name in _ENDS_OF_TURN if name in self._special]
        return next((self._special[n] for n in named if n == END_OF_TURN or n in self.chat_template), self.eos)


def train_tokenizer(texts: Iterable[str], *, vocab_size: int) -> Tokenizer:
    """Learn a vocabulary. The same texts give the same tokenizer.json, byte for byte.

    A corpus too small for `vocab_size` gives a smaller vocabulary: pairs seen once are not worth a token.

    Raises:
        RhapsodeError: `vocab_size` has no room for the bytes and the special tokens.
    """
    if vocab_size < SMALLEST_VOCABULARY:
        raise RhapsodeError(
            f"vocab_size {vocab_size} is too small: 256 bytes and {len(SPECIAL_TOKENS)} special tokens need a place",
            f"set data.tokens.vocab_size to {SMALLEST_VOCABULARY} or more",
        )
    backend = tokenizers.Tokenizer(models.BPE())
    split = pre_tokenizers.Split(tokenizers.Regex(SPLIT), behavior="isolated")
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([split, to_bytes])
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator((piece for text in texts for piece in training_pieces(text)), trainer)
    begin = (BOS, backend.token_to_id(BOS))
    backend.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS}:1 $B:1", special_tokens=[begin]
    )
    names = {"bos_token": BOS, "eos_token": EOS, "pad_token": PAD}
    return Tokenizer(backend.to_str(pretty=True), names=names, chat_template=CHATML)
