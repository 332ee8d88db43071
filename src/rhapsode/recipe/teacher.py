"""A model that another one learns from: what it must have in common with it, and what it passes on."""

from collections.abc import Mapping
from pathlib import Path

from rhapsode.core.errors import PlanRefused
from rhapsode.corpus.tokens import SPLITS
from rhapsode.recipe.base import Base
from rhapsode.text.tokenizer import Tokenizer
from rhapsode.train.plan import Decision
from rhapsode.train.trainer import Data

NAMED = 3


def learn_from(teacher: Base, data: Data) -> list[Decision]:
    """What the plan says of a teacher.

    Raises:
        PlanRefused: what it says of a token would be learned of another one, or it does not know all that occur.
    """
    _require_same_vocabulary(teacher, data.tokenizer)
    if (largest := max(data.tokens.split(split).largest for split in SPLITS)) >= teacher.spec.vocab_size:
        raise PlanRefused(
            f"the data has token {largest:,}, and the teacher {teacher.title} knows {teacher.spec.vocab_size:,}",
            "name a teacher that was trained with this tokenizer",
        )
    named = f"train.objective.teacher is {teacher.reference}; its manifest is {teacher.sha256[:12]}"
    size = f"{teacher.spec.parameters:,} parameters"
    return [
        Decision("teacher", teacher.title, named),
        Decision("teacher's size", size, "they read every row and stay as they are; the vocabulary is the student's"),
        Decision("teacher's licence", teacher.licence, "it may bind what learns from the teacher too"),
    ]


def _require_same_vocabulary(teacher: Base, tokenizer: Tokenizer) -> None:
    """How a text is cut into tokens is the student's affair; what an id stands for is that of both."""
    mine, its = tokenizer.vocabulary, Tokenizer.load(teacher.directory).vocabulary
    if mine == its:
        return
    apart = sorted(mine.items() ^ its.items(), key=lambda pair: pair[1])
    named = ", ".join(f"{i:,} {token!r} ({_whose(mine, token, i)})" for token, i in apart[:NAMED])
    raise PlanRefused(
        f"the teacher {teacher.title} has another vocabulary: {len(apart):,} tokens are not the same in both, such as "
        + named,
        "take a teacher with the student's own tokenizer, mostly a larger model of the same family",
    )


def _whose(mine: Mapping[str, int], token: str, number: int) -> str:
    return "the student's" if mine.get(token) == number else "the teacher's"


def papers_of(base: Base | None, teacher: Base | None) -> dict[str, Path]:
    """The files that both publishers ask to be passed on, by the name that they then have."""
    found = {path.name: path for path in (base.papers if base is not None else ())}
    for path in teacher.papers if teacher is not None else ():
        taken = found.get(path.name)
        if taken is None:
            found[path.name] = path
        elif taken.read_bytes() != path.read_bytes():
            found[f"{path.stem}.teacher{path.suffix}"] = path
    return found
