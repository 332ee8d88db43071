"""What a vocabulary gets besides, in a tokens directory: new_tokens.json, which the model's new rows are made from."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from rhapsode.core.errors import PlanRefused, RhapsodeError
from rhapsode.corpus.tokens_config import TokensConfig
from rhapsode.text.extension import extended, extended_config
from rhapsode.text.pieces import given_pieces, learn_pieces
from rhapsode.text.tokenizer import Tokenizer

FILE = "new_tokens.json"


class NewTokens(NamedTuple):
    """Tokens behind those of a vocabulary.

    Attributes:
        first: the number of the first of them; the others follow.
        words: pieces, then special tokens, as the vocabulary spells them.
        replaced: for each the tokens that spelled it before; none for a special token.
    """

    first: int
    words: tuple[str, ...]
    replaced: tuple[tuple[int, ...], ...]

    @property
    def ids(self) -> range:
        return range(self.first, self.first + len(self.words))

    @property
    def num_pieces(self) -> int:
        return sum(map(bool, self.replaced))

    def write(self, directory: Path) -> None:
        text = json.dumps(self._asdict(), ensure_ascii=False, separators=(",", ":"))
        (directory / FILE).write_text(text + "\n", encoding="utf-8")


def read_new_tokens(directory: Path) -> NewTokens | None:
    """Those of a tokens directory; None where its vocabulary is as it was given."""
    path = directory / FILE
    if not path.is_file():
        return None
    value = json.loads(path.read_text(encoding="utf-8"))
    return NewTokens(value["first"], tuple(value["words"]), tuple(map(tuple, value["replaced"])))


def find_new_tokens(tokenizer: Tokenizer, config: TokensConfig, texts: Iterable[str]) -> NewTokens:
    """The tokens that a recipe asks for.

    Args:
        texts: what pieces are learned from, where only their number is given.

    Raises:
        RhapsodeError: one cannot be, or is there already.
    """
    words, taken, asked = tokenizer.words, tokenizer.taken_words, config.new_pieces
    if isinstance(asked, list):
        pieces = given_pieces(asked, words, taken=taken)
    else:
        counts = Counter(word for text in texts for word in words.of(text)) if asked else Counter[str]()
        pieces = learn_pieces(counts, words, count=asked, taken=taken)
    names = _special(config.new_special, tokenizer)
    return NewTokens(
        tokenizer.vocab_size,
        (*(piece.word for piece in pieces), *names),
        (*(piece.ids for piece in pieces), *(() for _ in names)),
    )


def extend_tokenizer(tokenizer: Tokenizer, new: NewTokens, config: TokensConfig) -> Tokenizer:
    """The vocabulary with these tokens behind its own; the words that were asked for are one token each.

    Raises:
        PlanRefused: one of them is not, for its letters are joined in another way.
    """
    pieces, special = new.words[: new.num_pieces], new.words[new.num_pieces :]
    source = extended(tokenizer.source, pieces=pieces, special=special)
    made = Tokenizer(source, names=tokenizer.names, chat_template=tokenizer.chat_template)
    assert [made.special(word) for word in new.words] == list(new.ids), "a token has the number that was meant for it"
    for text in config.new_pieces if isinstance(config.new_pieces, list) else ():
        tokens = [token for word in made.words.whole(text) for token in made.words.tokens(word)]
        if len(tokens) > 1:
            raise PlanRefused(
                f"the new piece {text!r} would be read as {tokens}: what comes before it in data.tokens.new_pieces "
                "takes its letters",
                "put it first, or leave one of them out",
            )
    return made


def write_extended(directory: Path, tokenizer: Tokenizer, new: NewTokens) -> None:
    """Put an extended vocabulary in the place of the one whose files are in `directory`, and say there what is new."""
    (directory / "tokenizer.json").write_text(tokenizer.source, encoding="utf-8")
    path = directory / "tokenizer_config.json"
    special = dict(list(zip(new.words, new.ids, strict=True))[new.num_pieces :])
    config = extended_config(json.loads(path.read_text(encoding="utf-8")), special=special)
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    new.write(directory)


def _special(names: Sequence[str], tokenizer: Tokenizer) -> Sequence[str]:
    for number, name in enumerate(names):
        if name in names[:number] or tokenizer.words.has(name) or name in tokenizer.taken_words:
            raise RhapsodeError(f"the special token {name!r} is there already", "leave it out of data.tokens")
    return names
