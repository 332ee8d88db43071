"""One model for a task on this machine, with the reason."""

import difflib
from collections.abc import Mapping
from typing import NamedTuple

from rhapsode.catalogue.entries import Entry
from rhapsode.catalogue.fit import Fit
from rhapsode.catalogue.models import CATALOGUE
from rhapsode.catalogue.tasks import TASKS
from rhapsode.core.errors import RecipeError
from rhapsode.core.units import format_bytes

READING_SPEED = 6.0
"""Tokens a second below which a person waits for the answer: about four words."""


class Recommendation(NamedTuple):
    """`because` is a sentence; None as entry where nothing fits."""

    task: str
    entry: Entry | None
    because: str


def find_task(words: str) -> str:
    """The task that a person means.

    Raises:
        RecipeError: none of those we know.
    """
    wanted = words.casefold().split()
    if (exact := " ".join(wanted)) in TASKS:
        return exact
    known = {word: task for task, choice in TASKS.items() for word in (*task.split(), *choice.words)}
    for word in wanted:
        if close := difflib.get_close_matches(word, known, n=1, cutoff=0.8):
            return known[close[0]]
    raise RecipeError(f"--task: {words!r} is not a task of the catalogue", f"choose one of {', '.join(TASKS)}")


def recommend(task: str, fits: Mapping[str, Fit]) -> Recommendation:
    """The first of the task's models that fits for chat and writes as fast as people read; else the first that fits."""
    choices = [name for name in TASKS[task].models if fits[name].chat.verdict == "fits"]
    quick = [name for name in choices if fits[name].chat.tokens_per_second >= READING_SPEED]
    if not choices:
        return Recommendation(task, None, "no model of the catalogue for this fits in the memory that is free here")
    name = (quick or choices)[0]
    entry, chat, lora = CATALOGUE[name], fits[name].chat, fits[name].lora
    passed = TASKS[task].models[: TASKS[task].models.index(name)]
    why = f"the first choice for {task}" if not passed else f"the best choice for {task} that is quick enough here"
    if not quick:
        why = f"the best choice for {task} that fits here, slower than people read"
    tuning = {"fits": "LoRA fits too", "tight": "LoRA only just fits", "does not fit": "too large to tune here"}
    because = (
        f"{why}: {format_bytes(chat.memory)} of memory, about {chat.tokens_per_second:.0f} tokens/s; "
        f"{tuning[lora.verdict]}; {entry.licence.name}"
    )
    return Recommendation(task, entry, because)
