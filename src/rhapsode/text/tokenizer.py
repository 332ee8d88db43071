"""Text to token ids and back: byte-level BPE that can say anything and forge nothing.

All 256 bytes are tokens, so every input round-trips, whatever its bytes. Special tokens exist only as ids: `encode`
reads "<|im_end|>" as ordinary characters, so no document and no user can end a turn or open a system message.
The files are those of the Hugging Face ecosystem; `AutoTokenizer` reads them and gives the same ids.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

from rhapsode.core.errors import RhapsodeError
from rhapsode.text.blocks import SPLIT, groups, line_blocks, runs, training_pieces
from rhapsode.text.chat import CHATML, END_OF_TURN, START_OF_TURN
from rhapsode.text.spelling import byte_spellings, token_bytes

BOS, EOS, PAD = "<|begin_of_text|>", "<|end_of_text|>", "<|pad|>"
SPECIAL_TOKENS = (BOS, EOS, PAD, START_OF_TURN, END_OF_TURN)
SMALLEST_VOCABULARY = len(SPECIAL_TOKENS) + 256


class Tokenizer:
    """A trained vocabulary: `encode`, `decode_bytes`, and the ids that have a meaning of their own.

    A vocabulary from elsewhere may lack some of these ids; then `eos` stands in for `bos`, `pad` and `end_of_turn`.
    """

    def __init__(self, source: str, *, names: dict[str, str], chat_template: str) -> None:
        """Read `source`, the text of a tokenizer.json. `names` holds bos_token, eos_token and pad_token.

        Raises:
            RhapsodeError: it is damaged, it is not byte-level BPE, or a named token is not in it.
        """
        self.chat_template = chat_template
        self._source, self._names = source, names
        self._backend = _backend(source)
        shape = json.loads(source)
        self._bytes = token_bytes(shape)
        self._byte_ids = byte_spellings(self._bytes)
        self._is_cut_at_lines = _pattern(shape) == SPLIT
        self.vocab_size: int = max(self._bytes) + 1
        self.eos = self.special(names["eos_token"])
        self.bos, self.pad = (self.special(names.get(key, names["eos_token"])) for key in ("bos_token", "pad_token"))
        known = self._backend.token_to_id(END_OF_TURN)
        self.end_of_turn: int = self.eos if known is None else known
        self._prefix: list[int] = self._backend.encode("", add_special_tokens=True).ids

    @classmethod
    def load(cls, directory: Path) -> "Tokenizer":
        """The tokenizer of a Hugging Face model directory."""
        config = _read_json(directory / "tokenizer_config.json")
        values = {key: config.get(key) for key in ("bos_token", "eos_token", "pad_token")}
        names = {k: v["content"] if isinstance(v, dict) else v for k, v in values.items() if v is not None}
        if "eos_token" not in names:
            raise RhapsodeError(f"{directory / 'tokenizer_config.json'} names no eos_token", "add the key eos_token")
        template = directory / "chat_template.jinja"
        chat_template = _read(template) if template.is_file() else config.get("chat_template") or ""
        return cls(_read(directory / "tokenizer.json"), names=names, chat_template=chat_template)

    def save(self, directory: Path, *, model_max_length: int | None = None) -> None:
        """Write the four files that other readers expect; the same tokenizer always gives the same bytes."""
        directory.mkdir(parents=True, exist_ok=True)
        config: dict[str, Any] = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": False,
            **self._names,
            "chat_template": self.chat_template,
        }
        if model_max_length is not None:
            config["model_max_length"] = model_max_length
        _write(directory / "tokenizer.json", self._source)
        _write(directory / "tokenizer_config.json", _json(config))
        _write(directory / "special_tokens_map.json", _json(self._names))
        _write(directory / "chat_template.jinja", self.chat_template)

    def encode(self, text: str | bytes) -> list[int]:
        """The ids of `text` alone; never a special one. Bytes that are not UTF-8 become one token each."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str | bytes]) -> list[list[int]]:
        """`encode` of each text, in parallel."""
        pieces = [(index, piece) for index, text in enumerate(texts) for piece in self._pieces(text)]
        encoded = self._encode_blocks([piece for _, piece in pieces if isinstance(piece, str)])
        result: list[list[int]] = [[] for _ in texts]
        for index, piece in pieces:
            result[index] += next(encoded) if isinstance(piece, str) else [self._byte_ids[byte] for byte in piece]
        return result

    def ids(self, text: str | bytes) -> list[int]:
        """A document's beginning: what `AutoTokenizer(text)` gives, for us the id of bos and then `encode(text)`."""
        return self._prefix + self.encode(text)

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The exact bytes. Special tokens contribute nothing."""
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
        """The id of the special token spelled `name`."""
        token: int | None = self._backend.token_to_id(name)
        if token is None:
            raise RhapsodeError(f"tokenizer.json has no token {name!r}", "correct its name in tokenizer_config.json")
        return token

    def _pieces(self, text: str | bytes) -> Iterator[str | bytes]:
        """Valid text as str, in blocks where they change no id; other bytes as bytes."""
        for run in runs(text):
            if isinstance(run, str) and self._is_cut_at_lines:
                yield from line_blocks(run)
            else:
                yield run

    def _encode_blocks(self, blocks: Sequence[str]) -> Iterator[list[int]]:
        for group in groups(blocks):
            for encoding in self._backend.encode_batch_fast(group, add_special_tokens=False):
                yield encoding.ids


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


def _backend(source: str) -> tokenizers.Tokenizer:
    try:
        backend = tokenizers.Tokenizer.from_str(source)
    except Exception as error:  # the library raises nothing narrower
        raise RhapsodeError(f"tokenizer.json is damaged: {error}", "restore the file") from error
    backend.encode_special_tokens = True
    return backend


def _pattern(shape: dict[str, Any]) -> str | None:
    """The regular expression that splits text before BPE, where there is exactly one."""
    stages = (shape.get("pre_tokenizer") or {}).get("pretokenizers", [])
    patterns = [stage["pattern"].get("Regex") for stage in stages if stage["type"] == "Split"]
    return patterns[0] if len(patterns) == 1 else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RhapsodeError(f"{path} does not exist", "name a directory that holds a tokenizer") from None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(_read(path))
    except ValueError as error:
        raise RhapsodeError(f"{path} is damaged: {error}", "restore the file") from None
    if not isinstance(value, dict):
        raise RhapsodeError(f"{path} is damaged: it holds no object", "restore the file")
    return value


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
