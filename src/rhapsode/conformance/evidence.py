"""The evidence of a model, as files: `conformance/vectors.json` and `conformance/logits.safetensors`.

A case is a text or a conversation; it leads to token ids, these to scores of what comes next, and these to the
likeliest tokens. At most `longest` ids of a case are its prompt, so that a short context has room for it too.

Of each of a prompt's last positions the file holds the `TOP` best scores and the logarithm of the sum of all
exponentials. A whole row is as wide as the vocabulary, 16 MB for the rows of a large one, and says little more: what
changes a model changes its best scores, and any change of the others moves the sum.

The files may come from anywhere: they are bounded, checked and then believed only as far as a reader bears them out.

Shapes: R rows (the last positions of all cases, one case after another), K = `TOP`, or the vocabulary if it is smaller.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import torch
from pydantic import FailFast, Field, ValidationError, model_validator

from rhapsode.conformance.words import DIGITS, MOST_WORDS, sampled
from rhapsode.core.config import Config
from rhapsode.core.errors import RhapsodeError
from rhapsode.text.chat import Message
from rhapsode.weights.json_file import read_bytes
from rhapsode.weights.safetensors import read_tensors, write_tensors

FOLDER = "conformance"
VECTORS, LOGITS = "vectors.json", "logits.safetensors"
LAST = 4
"""Positions of a prompt, counted from its end, whose scores are kept."""
TOP = 64
MOST_BYTES = 1 << 20
MOST_MARKS = 8192
"""Colons and opening brackets: errors and empty values cost far more memory than the bytes that spell them."""
MOST_IDS = 4096
MOST_CHARS = 4096
AGAIN = "the evidence is not genuine; pull or train the model again"

Floats = np.ndarray[Any, np.dtype[np.float32]]
Ids = np.ndarray[Any, np.dtype[np.int32]]

Token = Annotated[int, Field(ge=0, lt=2**31)]
# at the first mistake a list is given up: an error for each of a million would be as hard to bear as the list
Tokens = Annotated[tuple[Token, ...], FailFast()]
Numbers = Annotated[tuple[float, ...], FailFast()]


class Case(Config):
    """One text or one conversation.

    Attributes:
        ids: what it becomes; of a conversation, up to where the assistant begins to speak.
        is_look_alike: some of it is spelled like a special token of this model and is none.
        greedy: the likeliest tokens after the prompt, one after the other, whether or not one of them is an end.
        logprobs: of each of these tokens.
        gaps: by how much each was likelier than the second, in nats: how sure the choice is.
        says: the text of these tokens, up to the first that ends an answer.
    """

    text: str | None = Field(default=None, max_length=MOST_CHARS)
    messages: Annotated[tuple[Message, ...], FailFast()] = Field(default=(), max_length=16)
    ids: Tokens = Field(max_length=MOST_IDS)
    is_look_alike: bool = False
    greedy: Tokens = Field(default=(), max_length=64)
    logprobs: Numbers = Field(default=(), max_length=64)
    gaps: Numbers = Field(default=(), max_length=64)
    says: str = Field(default="", max_length=MOST_CHARS)

    @model_validator(mode="after")
    def _is_one_thing(self) -> "Case":
        if (self.text is None) != bool(self.messages):
            raise ValueError("a case is a text or a conversation")
        if not len(self.greedy) == len(self.logprobs) == len(self.gaps):
            raise ValueError("every greedy token has one logprob and one gap")
        return self

    @property
    def name(self) -> str:
        """What a person recognises it by."""
        if self.text is None:
            return f"conversation of {len(self.messages)}, last {_short(self.messages[-1].content)}"
        return f"text {_short(self.text)}"


class Vectors(Config):
    """What `vectors.json` holds.

    Attributes:
        longest: so many ids of a case are its prompt; more are compared as ids alone.
        vocabulary: ids that the tokenizer knows; rows of the model beyond them are padding and count nowhere.
        prefix: what is put before a text.
        stops: the tokens that end an answer.
        words: what is kept of the ids of words of the vocabulary; see `words.py`.
        is_dated: the chat template writes today's date, so conversations have other ids tomorrow.
    """

    version: Literal[1] = 1
    longest: int = Field(ge=1, le=MOST_IDS)
    vocabulary: int = Field(ge=1, lt=2**31)
    prefix: Tokens = Field(max_length=16)
    stops: Tokens = Field(max_length=1024)
    is_dated: bool
    words: str = Field(pattern=r"\A[0-9a-f]*\z", max_length=DIGITS * MOST_WORDS)
    cases: Annotated[tuple[Case, ...], FailFast()] = Field(min_length=1, max_length=256)

    @model_validator(mode="after")
    def _knows_its_ids(self) -> "Vectors":
        used = (token for case in self.cases for token in (*case.ids, *case.greedy))
        if max(used, default=0) >= self.vocabulary:
            raise ValueError(f"an id is beyond the vocabulary of {self.vocabulary}")
        if len(self.words) != DIGITS * len(sampled(self.vocabulary)):
            raise ValueError(f"words has {len(self.words)} digits, which a vocabulary of {self.vocabulary} has not")
        return self

    def prompt(self, case: Case) -> tuple[int, ...]:
        """The ids that the model reads."""
        return case.ids[: self.longest]

    def num_rows(self, case: Case) -> int:
        return min(LAST, len(self.prompt(case)))


class TopScores(NamedTuple):
    """The best scores [R,K] of some positions with the ids [R,K] that have them; `log_sums` [R] is over all ids."""

    ids: Ids
    scores: Floats
    log_sums: Floats

    def rows(self, start: int, stop: int) -> "TopScores":
        return TopScores(self.ids[start:stop], self.scores[start:stop], self.log_sums[start:stop])


class Evidence(NamedTuple):
    """What a model directory says about itself."""

    vectors: Vectors
    scores: TopScores

    def scored(self) -> Iterator[tuple[Case, TopScores]]:
        """Every case that has a prompt, with its rows."""
        start = 0
        for case in self.vectors.cases:
            stop = start + self.vectors.num_rows(case)
            if stop > start:
                yield case, self.scores.rows(start, stop)
            start = stop


def write_evidence(directory: Path, evidence: Evidence) -> None:
    """Write both files, byte for byte the same for the same evidence.

    Raises:
        RhapsodeError: the model says so much that nobody would read the evidence again.
        OSError: what the system said, for example that the disk is full.
    """
    value = evidence.vectors.model_dump(mode="json", exclude={"cases"})
    head = json.dumps(value, ensure_ascii=False).removesuffix("}")
    cases = [
        json.dumps(case.model_dump(mode="json", exclude_defaults=True), ensure_ascii=False)
        for case in evidence.vectors.cases
    ]
    data = (head + ', "cases": [\n' + ",\n".join(cases) + "\n]}\n").encode()
    _check_size(data, where=directory / FOLDER / VECTORS)
    folder = directory / FOLDER
    folder.mkdir(exist_ok=True)
    (folder / VECTORS).write_bytes(data)
    write_tensors(folder / LOGITS, {name: torch.from_numpy(array) for name, array in evidence.scores._asdict().items()})


def read_evidence(directory: Path) -> Evidence | None:
    """The evidence of a model directory, None if it carries none.

    Raises:
        RhapsodeError: it is damaged, or larger than any evidence is.
    """
    path = directory / FOLDER / VECTORS
    if not path.exists():
        return None
    data = read_bytes(path, most=MOST_BYTES)
    _check_size(data, where=path)
    try:
        vectors = Vectors.model_validate_json(data)
    except ValidationError as error:
        raise explain(error, where=str(path)) from None
    return Evidence(vectors, _read_scores(directory / FOLDER / LOGITS, vectors))


def explain(error: ValidationError, *, where: str) -> RhapsodeError:
    """The first of the things that are wrong."""
    first = error.errors(include_url=False)[0]
    place = ".".join(str(step) for step in first["loc"])
    return RhapsodeError(f"{where}: {place or 'the whole'}: {first['msg']}", AGAIN)


def _check_size(data: bytes, *, where: Path) -> None:
    if len(data) > MOST_BYTES or sum(map(data.count, (b":", b"{", b"["))) > MOST_MARKS:
        raise RhapsodeError(f"{where} holds more than any evidence does", AGAIN)


def _read_scores(path: Path, vectors: Vectors) -> TopScores:
    num_rows = sum(map(vectors.num_rows, vectors.cases))
    top = min(TOP, vectors.vocabulary)
    wide, narrow = (num_rows, top), (num_rows,)
    shapes = {"ids": (wide, torch.int32), "scores": (wide, torch.float32), "log_sums": (narrow, torch.float32)}
    if path.is_file() and path.stat().st_size > MOST_BYTES:
        raise RhapsodeError(f"{path} is larger than any evidence is", AGAIN)
    found = read_tensors(path)
    if {name: (tuple(value.shape), value.dtype) for name, value in found.items()} != shapes:
        raise RhapsodeError(f"{path} does not hold the scores of the cases in {VECTORS}", AGAIN)
    scores = TopScores(**{name: value.numpy() for name, value in found.items()})
    if not (np.isfinite(scores.scores).all() and np.isfinite(scores.log_sums).all()):
        raise RhapsodeError(f"{path}: a score is not a finite number", AGAIN)
    if ((scores.ids < 0) | (scores.ids >= vectors.vocabulary)).any():
        raise RhapsodeError(f"{path}: an id is not one of the vocabulary of {vectors.vocabulary}", AGAIN)
    return scores


def _short(text: str, *, most: int = 40) -> str:
    return repr(text if len(text) <= most else text[: most - 1] + "…")
