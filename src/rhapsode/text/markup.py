"""Reading text that a chat template wrote: special tokens where the template put them, text where a message did.

A rendered conversation is one string, in which a user's "<|im_end|>" looks like the template's. So messages are
shielded before they are rendered: inside whatever is spelled like a special token stands a private-use character that
occurs nowhere else. Special tokens are then looked for in the shielded string, as transformers looks for them, and
each that is found is replaced by a mark that no text contains; the shield comes off; and a copy of the tokenizer that
knows the marks as its special tokens encodes the whole. So the rules about spaces beside special tokens, prefixes and
normalisation are the library's own, and what was shielded is text.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import NamedTuple

import tokenizers

from rhapsode.core.errors import RhapsodeError
from rhapsode.text import library

_PRIVATE = range(0x10FFFD, 0xF0000, -1)
_CHECK = "look at the text, and at the expressions in tokenizer.json"
_ANY_PRIVATE = re.compile("[\U000f0000-\U0010fffd]")


class Shield(NamedTuple):
    """Characters that no message holds: one that breaks look-alikes, others in place of tokens of one character."""

    char: str
    stand_ins: Mapping[str, str]

    def lift(self, text: str) -> str:
        """What `text` was before it was shielded."""
        back = {ord(char): name for name, char in self.stand_ins.items()}
        return text.translate({ord(self.char): None, **back})


class Place(NamedTuple):
    """A special token in a text, from one character to another."""

    start: int
    stop: int
    token: int


class Read(NamedTuple):
    """A shielded text, from where to where added tokens stand in it, and where the special ones among them do."""

    text: str
    spans: Sequence[tuple[int, int]]
    places: Sequence[Place]


class _Marked(NamedTuple):
    """A tokenizer whose special tokens are spelled with `mark`, their ids in it, and what its ids stand for."""

    mark: str
    backend: tokenizers.Tokenizer
    special: Set[int]
    meanings: Mapping[int, Sequence[int]]


class Markup:
    """The special tokens of one tokenizer, in text.

    `special` maps names to ids; `respelled` holds ids that no text may become, and what stands in their place.
    """

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        *,
        special: Mapping[str, int],
        respelled: Mapping[int, Sequence[int]],
        vocab_size: int,
    ) -> None:
        self._backend, self._special, self._respelled, self._vocab_size = backend, special, respelled, vocab_size
        self._added = list(library.added_tokens(backend).values())
        alone = [tokenizers.AddedToken(name, special=True, normalized=False) for name in special]
        self._lookalikes = library.finder(alone)
        self._written = library.finder(self._added, normalizer=backend.normalizer)
        self._heads = {name[:stop] for name in special for stop in range(1, len(name))}
        self._tails = {name[start:] for name in special for start in range(1, len(name))}
        self._edges = (
            re.compile(f"[{re.escape(''.join({name[0] + name[-1] for name in special}))}]") if special else None
        )
        first = [token for token in self._added if token.content in special or not token.normalized]
        self._is_found_alone = not any(t.single_word or t.lstrip or t.rstrip or t.normalized for t in first)
        self._in_names = {*_ANY_PRIVATE.findall("".join(special))}
        self._single = [name for name in special if len(name) == 1]
        self._longest = max(map(len, special), default=0)
        self._names = {self._written.token_to_id(token.content): token.content for token in self._added}
        self._marked = _Marked("", backend, set(), {})

    def shield(self, texts: Iterable[str]) -> Shield:
        """A shield for texts that are rendered together."""
        char, *others = self._unused("".join(texts), 1 + len(self._single))
        return Shield(char, dict(zip(self._single, others, strict=True)))

    def cover(self, text: str, shield: Shield) -> str:
        """`text`, in which nothing is a special token any more, nor begins one at its end or ends one at its start."""
        if self._edges is None or not self._edges.search(text):
            return text
        text = text.translate({ord(name): char for name, char in shield.stand_ins.items()})
        while starts := [start for start, _ in self._lookalikes.encode(text).offsets]:
            stops = [start + 1 for start in starts]
            text = shield.char.join(text[i:j] for i, j in zip([0, *stops], [*stops, len(text)], strict=True))
        visible = text.strip()
        start, stop = len(text) - len(text.lstrip()), len(text.rstrip())
        sizes = range(1, min(self._longest, len(visible) + 1))
        ahead = shield.char if any(visible[:size] in self._tails for size in sizes) else ""
        after = shield.char if any(visible[-size:] in self._heads for size in sizes) else ""
        return text[:start] + ahead + text[start:stop] + after + text[stop:] if visible else text

    def read(self, text: str) -> Read:
        """Where transformers would find special tokens in a shielded text.

        Raises:
            RhapsodeError: the library fails at the text.
        """
        with library.guarded("the conversation cannot be encoded", _CHECK):
            found = self._written.encode(text)
        named = [(self._names[token], span) for token, span in zip(found.ids, found.offsets, strict=True)]
        starts = [(name, text.find(name, *span)) for name, span in named if name in self._special]
        places = [Place(start, start + len(name), self._special[name]) for name, start in starts if start >= 0]
        return Read(text, found.offsets, places)

    def places(self, text: str) -> Sequence[Place]:
        """Those of `read`."""
        return self.read(text).places

    def places_before(self, whole: Read, stop: int) -> Sequence[Place]:
        """The places of the text that ends at character `stop`.

        Tokens are found from left to right, the longest of those that begin first, whatever stands around them, and
        before those that the normaliser has a say in. So they are those of the whole, if none goes on behind the end.
        """
        behind = bisect_left(whole.spans, (stop, 0))
        if not self._is_found_alone or (behind and whole.spans[behind - 1][1] > stop):
            return self.places(whole.text[:stop])
        return whole.places[: bisect_left(whole.places, (stop, 0, 0))]

    def ids(self, read: Read, shield: Shield) -> list[int]:
        """The ids of a shielded text, as transformers reads it where nothing was shielded.

        Raises:
            RhapsodeError: the library fails at the text.
        """
        text, _, places = read
        [mark] = self._unused("".join([text, shield.char, *shield.stand_ins.values()]), 1)
        pieces, last = [], 0
        for start, stop, token in places:
            pieces += [shield.lift(text[last:start]), f"{mark}{token}{mark}"]
            last = stop
        return self._encode("".join([*pieces, shield.lift(text[last:])]), mark=mark, num_special=len(places))

    def _encode(self, text: str, *, mark: str, num_special: int) -> list[int]:
        if self._marked.mark != mark:
            self._marked = self._knowing(mark)
        _, backend, special, meanings = self._marked
        with library.guarded("the conversation cannot be encoded", _CHECK):
            [encoding] = backend.encode_batch_fast([text], add_special_tokens=False)
        found = encoding.ids
        if sum(token in special for token in found) != num_special:
            raise RhapsodeError(
                "the special tokens of this model cannot be told from the text beside them",
                "use completion: rhapsode chat --complete, /v1/completions",
            )
        return [meant for token in found for meant in meanings.get(token, (token,))]

    def _knowing(self, mark: str) -> _Marked:
        """The tokenizer that finds marks in place of special tokens. Its added tokens have ids above all others."""
        missing = self._vocab_size - self._backend.get_vocab_size(with_added_tokens=False)
        fill = [tokenizers.AddedToken(f"{mark}-{number}{mark}", special=True) for number in range(missing)]
        backend = library.sharing(self._backend, added=[*fill, *(self._renamed(token, mark) for token in self._added)])
        there = {token.content: i for i, token in library.added_tokens(backend).items()}
        special = {there[f"{mark}{i}{mark}"]: [i] for i in self._special.values()}
        pieces = {there[t.content]: [i] for i, t in library.added_tokens(self._backend).items() if t.content in there}
        return _Marked(mark, backend, special.keys(), {**self._respelled, **pieces, **special})

    def _unused(self, text: str, count: int) -> list[str]:
        """So many private-use characters that occur neither there nor in a name."""
        used = self._in_names.union(_ANY_PRIVATE.findall(text))
        free = [chr(code) for code in _PRIVATE[: len(used) + count] if chr(code) not in used][:count]
        if len(free) < count:
            raise RhapsodeError("the messages use every private-use character there is", "leave some of them out")
        return free

    def _renamed(self, token: tokenizers.AddedToken, mark: str) -> tokenizers.AddedToken:
        name = f"{mark}{self._special[token.content]}{mark}" if token.content in self._special else token.content
        return tokenizers.AddedToken(
            name,
            single_word=token.single_word,
            lstrip=token.lstrip,
            rstrip=token.rstrip,
            normalized=token.normalized,
            special=token.special,
        )
