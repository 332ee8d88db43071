"""The tokens of a GGUF file, checked: what they spell, what kind each is, and which have a meaning of their own."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple

from rhapsode.core.errors import RhapsodeError
from rhapsode.weights.gguf.container import Gguf

MOST_TOKENS = 2**20
LONGEST_TEMPLATE = 2**20

# the names by which llama.cpp, too, knows a token that ends a turn or a text
ENDINGS = frozenset(
    {
        *("<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<end_of_utterance>", "<EOT>"),
        *("<|endoftext|>", "<|end_of_text|>", "<eos>", "</s>"),
    }
)


class Kind(IntEnum):
    """llama.cpp's types of tokens."""

    UNDEFINED = 0
    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True)
class Vocabulary:
    """What the keys `tokenizer.*` say.

    Attributes:
        model: "llama" is SentencePiece's kind, "gpt2" byte-level.
        tokens, kinds: for each id.
        scores, merges: the order of merging; one of them is empty.
        roles: "bos", "eos", "unknown", "padding", "eot", "eom" -> id, of those that there are.
        keys: the other settings.
    """

    where: str
    model: str
    tokens: list[str]
    kinds: list[Kind]
    scores: list[float]
    merges: list[str]
    roles: Mapping[str, int]
    keys: Mapping[str, Any]

    def flag(self, key: str, *, default: bool) -> bool:
        value = self.keys.get(key, default)
        if not isinstance(value, bool):
            raise self.wrong(f"tokenizer.ggml.{key} is {str(value)[:40]!r}; it must be true or false")
        return value

    def wrong(self, what: str, hint: str = "the file is damaged; fetch it again") -> RhapsodeError:
        return RhapsodeError(f"{self.where}: {what}", hint)

    def words(self, texts: Sequence[str]) -> dict[str, int]:
        """Text -> id; ids that only fill up the embedding have none.

        Raises:
            RhapsodeError: two tokens have the same text.
        """
        used = [token for token, kind in enumerate(self.kinds) if kind != Kind.UNUSED and texts[token]]
        words = {texts[token]: token for token in used}
        if len(words) < len(used):
            twice = next(token for token in used if words[texts[token]] != token)
            raise self.wrong(f"tokens {twice} and {words[texts[twice]]} are both spelled {texts[twice][:40]!r}")
        return words

    def stops(self) -> tuple[int, ...]:
        """Every id that ends a generation, the end of text first."""
        named = [self.roles[role] for role in ("eos", "eot", "eom") if role in self.roles]
        known = [i for i, kind in enumerate(self.kinds) if kind == Kind.CONTROL and self.tokens[i] in ENDINGS]
        return tuple(dict.fromkeys(named + known))


class Parts(NamedTuple):
    """What a tokenizer.json is made of.

    Attributes:
        texts: the tokens as they are written there.
        model: words, merges, and how they are used.
        normalizer, pre_tokenizer, decoder: what is done to a text before and after.
        adds_bos: whether a text begins with bos where the file does not say.
        is_normalized: whether the user's own tokens are looked for after the normalizer.
    """

    texts: Sequence[str]
    model: dict[str, Any]
    normalizer: dict[str, Any] | None
    pre_tokenizer: dict[str, Any] | None
    decoder: dict[str, Any]
    adds_bos: bool
    is_normalized: bool


def read_vocabulary(file: Gguf) -> Vocabulary:
    """The vocabulary of a file.

    Raises:
        RhapsodeError: there is none of a kind that is understood, or its parts do not fit each other; names the key.
    """
    reader = _Reader(file)
    model = reader.text("model")
    if model not in _ROLES:
        raise reader.wrong(
            f"its tokenizer is of the kind {str(model)[:40]!r}",
            "llama (SentencePiece's) and gpt2 (byte-level) are read; take the model's safetensors",
        )
    tokens = reader.values("tokens", str)
    is_llama = model == "llama"
    found = Vocabulary(
        where=str(file.path),
        model=model,
        tokens=tokens,
        kinds=reader.kinds(len(tokens), is_needed=is_llama),
        scores=reader.values("scores", float, int, count=len(tokens)) if is_llama else [],
        merges=[] if is_llama else reader.values("merges", str),
        roles=reader.roles(len(tokens), usual=_ROLES[model]),
        keys={key: reader.get(key) for key in _KEYS if reader.get(key) is not None},
    )
    if not all(map(math.isfinite, found.scores)):
        raise found.wrong("tokenizer.ggml.scores holds infinity or NaN")
    return found


def read_template(file: Gguf) -> str:
    """The chat template, "" where there is none. It is text here, and is not run."""
    value = file.metadata.get("tokenizer.chat_template", "")
    if not isinstance(value, str) or len(value) > LONGEST_TEMPLATE:
        raise RhapsodeError(
            f"{file.path}: tokenizer.chat_template is not a text of at most {LONGEST_TEMPLATE:,} characters",
            "the file is damaged; fetch it again",
        )
    return value


# what llama.cpp takes where the file names none; byte-level vocabularies have no such custom
_ROLES: dict[str, dict[str, int]] = {"llama": {"bos": 1, "eos": 2, "unknown": 0}, "gpt2": {}}
_NAMED = ("bos", "eos", "unknown", "padding", "eot", "eom")
_KEYS = ("pre", "add_bos_token", "add_eos_token", "add_space_prefix", "remove_extra_whitespaces")


class _Reader:
    """The keys `tokenizer.ggml.*`."""

    def __init__(self, file: Gguf) -> None:
        self._file = file

    def get(self, key: str) -> Any:
        return self._file.metadata.get(f"tokenizer.ggml.{key}")

    def text(self, key: str) -> str | None:
        value = self.get(key)
        return value if isinstance(value, str) else None

    def values(self, key: str, *types: type, count: int | None = None) -> list[Any]:
        """A list of at most `MOST_TOKENS`, or of exactly `count`; merges may be more."""
        length = self._file.metadata.length(f"tokenizer.ggml.{key}")
        if length is None:
            raise self.wrong(f"it lacks the list tokenizer.ggml.{key}", "the file holds no whole tokenizer")
        if count is not None and length != count:
            raise self.wrong(f"tokenizer.ggml.{key} has {length} entries for {count} tokens")
        if key != "merges" and not 0 < length <= MOST_TOKENS:
            raise self.wrong(f"tokenizer.ggml.{key} has {length} entries; 1 to {MOST_TOKENS} are read")
        value = self.get(key)
        if value and type(value[0]) not in types:
            raise self.wrong(f"tokenizer.ggml.{key} is a list of {type(value[0]).__name__}")
        assert isinstance(value, list)
        return value

    def kinds(self, count: int, *, is_needed: bool) -> list[Kind]:
        if not is_needed and self.get("token_type") is None:
            return [Kind.NORMAL] * count
        values = self.values("token_type", int, count=count)
        known = {int(kind): kind for kind in Kind}
        try:
            return [known[value] for value in values]
        except KeyError as error:
            raise self.wrong(f"tokenizer.ggml.token_type holds {error.args[0]}, which is no type of token") from None

    def roles(self, count: int, *, usual: Mapping[str, int]) -> dict[str, int]:
        found = {}
        for role in _NAMED:
            value = self.get(f"{role}_token_id")
            value = usual.get(role) if value is None else value
            if value is None:
                continue
            if type(value) is not int or not 0 <= value < count:
                raise self.wrong(f"tokenizer.ggml.{role}_token_id is {str(value)[:40]}; there are {count} tokens")
            found[role] = value
        return found

    def wrong(self, what: str, hint: str = "the file is damaged; fetch it again") -> RhapsodeError:
        return RhapsodeError(f"{self._file.path}: {what}", hint)
