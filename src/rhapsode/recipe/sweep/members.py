"""The runs that a recipe asks for: one, or a sweep. Free of torch.

    sweep:
      train.learning_rate: [0.01, 0.02]
      model.seed: [0, 1]

Four runs, one for each combination. Each is an ordinary recipe with these values in it, as --set would put them there,
and a name of its own: its plan, its model and its report are those of the run that the recipe alone would be.
"""

import itertools
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field

from rhapsode.core.config import Config
from rhapsode.core.errors import RecipeError
from rhapsode.core.manifest import value_sha256
from rhapsode.core.validate import place_of, problems, validate
from rhapsode.core.yaml import Document, Key, Place, parse_key
from rhapsode.recipe.load import SET, SWEEP, LoadedRecipe, check, put, read_recipe
from rhapsode.recipe.recipe import Values
from rhapsode.recipe.task import LONGEST, NAME

MOST = 64
"""Runs of a sweep."""
MARK = 8
"""Characters of the hash that names a run whose values do not make a name."""


class Member(NamedTuple):
    """One run of a sweep, and the values that make it differ, by key."""

    values: dict[str, Any]
    loaded: LoadedRecipe

    @property
    def name(self) -> str:
        return self.loaded.recipe.task.name


@dataclass(frozen=True)
class Sweep:
    """Several runs, in the order of the lists: the last one changes fastest.

    Attributes:
        labels: what tables call each key.
    """

    name: str
    purpose: str
    labels: dict[str, str]
    members: tuple[Member, ...]

    @property
    def seeds(self) -> list[str]:
        """Keys that change nothing but what is drawn."""
        return [key for key in self.labels if parse_key(key)[-1] == "seed"]


class _Choice(NamedTuple):
    """A value of one list: its key, its number in the list, the value, and where it stands."""

    key: str
    number: int
    value: Any
    at: Place


Choices = tuple[_Choice, ...]
"""What makes a run: a value of each list."""


class _Lists(Config):
    """The section alone, so that it can be checked before the runs that it makes."""

    sweep: dict[str, Values] = Field(default={}, description="Values to try.")


def load_runs(path: Path, overrides: Sequence[str] = ()) -> LoadedRecipe | Sweep:
    """Read and check a recipe of one run or of several.

    Args:
        path, overrides: as in `load_recipe`.

    Raises:
        RecipeError: every mistake with its file, line and key.
    """
    path, text, document = read_recipe(path, overrides)
    lists = _lists(document)
    if not lists:
        return check(path, text, document)
    chosen = list(itertools.product(*(_choices(key, values, document.places) for key, values in lists.items())))
    loaded = _check_all(path, text, document, chosen)
    _require_different(loaded, chosen)
    task, labels = loaded[0].recipe.task, _labels(lists)
    names = _names(task.name, labels, chosen, at=place_of(("task", "name"), document.places))
    members = [
        Member({one.key: one.value for one in combination}, _named(recipe, name))
        for combination, recipe, name in zip(chosen, loaded, names, strict=True)
    ]
    return Sweep(task.name, task.purpose, labels, tuple(members))


def shown(value: Any) -> str:
    """A value of a recipe in a table or a name."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _lists(document: Document) -> dict[str, list[Any]]:
    """The lists of values; none if the recipe has no sweep."""
    if SWEEP not in document.value:
        return {}
    section = {key: place for key, place in document.places.items() if key[:1] in ((), (SWEEP,))}
    lists = validate(_Lists, Document({SWEEP: document.value[SWEEP]}, section)).sweep
    if lines := list(_mistakes(lists, document.places)):
        raise problems(lines)
    if (count := math.prod(map(len, lists.values()))) > MOST:
        product = " x ".join(str(len(values)) for values in lists.values())
        at = place_of((SWEEP,), document.places).key
        raise RecipeError(f"{at}: {SWEEP}: {product} values are {count:,} runs; at most {MOST}", "leave some out")
    return lists


def _mistakes(lists: Mapping[str, list[Any]], places: Mapping[Key, Place]) -> Iterator[str]:
    """What is wrong with the keys, whatever the values."""
    known: dict[Key, str] = {}
    for name in lists:
        at = place_of((SWEEP, name), places).key
        try:
            key = parse_key(name)
        except ValueError as error:
            yield f"{at}: {SWEEP}: {error}"
            continue
        if key in (("task",), ("task", "name")):
            yield f"{at}: {SWEEP}.{name}: every run of a sweep gets its name from its values"
        if key[0] in (SWEEP, "launch"):
            yield f"{at}: {SWEEP}.{name}: runs differ in what they do; {key[0]} is for all of them alike"
            continue
        for other, other_name in known.items():
            if key[: len(other)] == other or other[: len(key)] == key:
                yield f"{at}: {SWEEP}.{name}: {other_name} is swept too, and one lies within the other"
        if any(place.value == SET and found[: len(key)] == key for found, place in places.items()):
            yield f"{SET}: {name}: the sweep at {at} gives it another value in every run; change {SWEEP}.{name}"
        known[key] = name


def _choices(key: str, values: Sequence[Any], places: Mapping[Key, Place]) -> list[_Choice]:
    above = place_of((SWEEP, key), places).key
    return [
        _Choice(key, number, value, Place(above, place_of((SWEEP, key, number), places).value))
        for number, value in enumerate(values)
    ]


def _check_all(path: Path, text: str, document: Document, chosen: Sequence[Choices]) -> list[LoadedRecipe]:
    """Every run's recipe, under the name that the file gives."""
    places = {key: place for key, place in document.places.items() if key[:1] != (SWEEP,)}
    plain = Document({key: value for key, value in document.value.items() if key != SWEEP}, places)
    loaded: list[LoadedRecipe] = []
    found: list[RecipeError] = []
    for combination in chosen:
        one = plain
        try:
            for key, _, value, at in combination:
                one = put(one, parse_key(key), value, at=at, what=f"{at.value}: {SWEEP}.{key}")
            loaded.append(check(path, text, one))
        except RecipeError as error:
            found.append(error)
    if found:
        raise problems([line for error in found for line in error.message.splitlines()], hint=found[0].hint)
    return loaded


def _require_different(loaded: Sequence[LoadedRecipe], chosen: Sequence[Choices]) -> None:
    """Two ways to write one value, such as 5% and 0.05, would be the same run twice."""
    seen: dict[str, Choices] = {}
    lines = []
    for recipe, combination in zip(loaded, chosen, strict=True):
        before = seen.setdefault(recipe.recipe.model_dump_json(), combination)
        for one, other in zip(combination, before, strict=True):
            if one.number != other.number:
                same = "is given twice" if one.value == other.value else f"is the same as {shown(other.value)}"
                lines.append(f"{one.at.value}: {SWEEP}.{one.key}: {shown(one.value)} {same}")
                break
    if lines:
        raise problems(lines)


def _labels(keys: Mapping[str, Any]) -> dict[str, str]:
    """The last part of each key, where that is enough to tell them apart."""
    last = {key: [step for step in parse_key(key) if isinstance(step, str)][-1] for key in keys}
    times = Counter(last.values())
    return {key: label if times[label] == 1 else key for key, label in last.items()}


def _names(stem: str, labels: Mapping[str, str], chosen: Sequence[Choices], *, at: Place) -> list[str]:
    """A name a run: its values where they make one that no other run has, else a hash of them.

    A list may grow and the runs that are there keep their names, as long as no new one is spelled like them.
    """
    if len(stem) + 1 + MARK > LONGEST:
        raise RecipeError(
            f"{at.value}: task.name: {stem!r} leaves no room for the names of a sweep's runs",
            f"use at most {LONGEST - 1 - MARK} characters",
        )
    names = [_slug("-".join([stem, *(f"{labels[one.key]}-{shown(one.value)}" for one in c)])) for c in chosen]
    hashes = [f"{stem}-{value_sha256({one.key: one.value for one in c})[:MARK]}" for c in chosen]
    times = Counter(names)
    is_name = [len(n) <= LONGEST and bool(NAME.fullmatch(n)) and times[n] == 1 for n in names]
    return [name if good else mark for name, mark, good in zip(names, hashes, is_name, strict=True)]


def _slug(text: str) -> str:
    return re.sub("[^a-z0-9]+", "-", text.lower()).strip("-")


def _named(loaded: LoadedRecipe, name: str) -> LoadedRecipe:
    task = loaded.recipe.task.model_copy(update={"name": name})
    recipe = loaded.recipe.model_copy(update={"task": task})
    return LoadedRecipe(recipe, loaded.path, loaded.base_dir, loaded.text, loaded.places, loaded.base, loaded.teacher)
