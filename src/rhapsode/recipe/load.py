"""Read a recipe: the file, the changes from the command line, and where every value came from.

loaded = load_recipe(Path("recipes/quickstart.yaml"), ["train.budget=300 steps"])
loaded.recipe.train.budget         # Budget(300, "steps")
loaded.locate("train.budget")      # "--set"
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rhapsode.core.errors import RecipeError, RhapsodeError, VerificationMismatch
from rhapsode.core.validate import place_of, problems, validate
from rhapsode.core.yaml import Document, Key, Place, format_key, parse_key, read_value, read_yaml
from rhapsode.corpus.sources import expand
from rhapsode.recipe.base import Base, find_base
from rhapsode.recipe.recipe import Recipe

SET = "--set"
SWEEP = "sweep"
BASE: Key = ("model", "base")
TEACHER: Key = ("train", "objective", "teacher")


@dataclass(frozen=True)
class LoadedRecipe:
    """A recipe with its origin, and the models that it starts from and learns from, if it names them.

    Relative paths in it start from `base_dir`; `text` is the file as it was read.
    """

    recipe: Recipe
    path: Path
    base_dir: Path
    text: str
    places: Mapping[Key, Place]
    base: Base | None
    teacher: Base | None = None

    def locate(self, key: str) -> str:
        """Where `data.sources[0].path` was given: "file:line" or "--set"; for a default, the section around it."""
        return place_of(parse_key(key), self.places).value


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> LoadedRecipe:
    """Read and check the recipe of one run.

    Args:
        path: the YAML file.
        overrides: changes such as "train.budget=300 steps" or "data.sources[0].path=texts".

    Raises:
        RecipeError: every mistake with its file, line and key; or it is a sweep, which is several runs.
    """
    return check(*read_recipe(path, overrides))


def read_recipe(path: Path, overrides: Sequence[str]) -> tuple[Path, str, Document]:
    """The path, the text of the file, and its values with the overrides in them, not checked yet.

    Raises:
        RecipeError: the file cannot be read, is not YAML or has no sections; or an override cannot be understood.
    """
    text = _read(path)
    document = _override(read_yaml(text, name=str(path)), overrides)
    if not isinstance(document.value, dict):
        raise RecipeError(f"{path}: not a recipe: it has no sections", "it needs at least `task:` and `data:`")
    return path, text, document


def check(path: Path, text: str, document: Document) -> LoadedRecipe:
    """Make one run of what `read_recipe` gives; raises what `load_recipe` does."""
    recipe, places = validate(Recipe, document), document.places
    if recipe.sweep:
        raise RecipeError(
            f"{place_of(('sweep',), places).key}: sweep: one run is needed here, and this is several",
            f"only plan, train and run walk a sweep; leave it out with {SET} 'sweep={{}}', or give the recipe.yaml "
            "of one of its runs",
        )
    _check_sources(recipe, base_dir=path.parent, places=places)
    named: list[tuple[Key, str | None]] = [(BASE, recipe.model.base), (TEACHER, recipe.train.teacher)]
    found = (_model(recipe, key, name, base_dir=path.parent, places=places) for key, name in named)
    return LoadedRecipe(recipe, path, path.parent, text, places, *found)


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise RecipeError(f"{path}:{line}: not UTF-8 text", "save the recipe as UTF-8") from None
    except FileNotFoundError:
        raise RecipeError(f"{path} does not exist", "give the path of a recipe, a YAML file") from None
    except OSError as error:
        raise RecipeError(f"{path}: {error.strerror}", "give the path of a recipe, a YAML file") from None


def _override(document: Document, overrides: Sequence[str]) -> Document:
    """The document with the changes of --set in it."""
    for override in overrides:
        name, equals, text = override.partition("=")
        try:
            key = parse_key(name.strip())
        except ValueError as error:
            raise RecipeError(f"{SET} {override}: {error}") from None
        if not equals:
            raise RecipeError(f"{SET} {override}: no value", f"write {SET} {name}=VALUE")
        if key[0] == SWEEP and len(key) > 1:
            key = (SWEEP, format_key(key[1:]))
        value = read_value(text, name=f"{SET} {name}")
        document = put(document, key, value, at=Place(SET, SET), what=f"{SET} {override}")
    return document


def put(document: Document, key: Key, value: Any, *, at: Place, what: str) -> Document:
    """A copy of the document with `value` at `key`.

    Args:
        at: where it was given.
        what: how an error message begins.

    Raises:
        RecipeError: the key leads through what is no section, or past the end of a list.
    """
    places = {place: found for place, found in document.places.items() if place[: len(key)] != key}
    return Document(_put(document.value, key, value, what), {**places, key: at})


def _put(data: Any, key: Key, value: Any, what: str) -> Any:
    """A copy of `data` with `value` at `key`; sections that are not there yet are made."""
    if not key:
        return value
    step, *rest = key
    if isinstance(step, str):
        if not isinstance(data, dict | None):
            raise RecipeError(f"{what}: {step!r} is below a value that is not a section")
        return {**(data or {}), step: _put((data or {}).get(step), tuple(rest), value, what)}
    items = data if isinstance(data, list) else []
    if step > len(items):
        raise RecipeError(f"{what}: there is no [{step}]; the list has {len(items)}", f"[{len(items)}] adds one")
    changed = _put(items[step] if step < len(items) else None, tuple(rest), value, what)
    return [*items[:step], changed, *items[step + 1 :]]


def _check_sources(recipe: Recipe, *, base_dir: Path, places: Mapping[Key, Place]) -> None:
    """A source that does not exist is a mistake of the recipe: it is named before anything runs."""
    lines, hint = [], ""
    kind = "examples" if recipe.data.examples else "sources"
    for index, source in enumerate(recipe.data.given):
        try:
            expand(source.path, key=f"data.{kind}[{index}].path", base=base_dir)
        except RhapsodeError as error:
            place = place_of(("data", kind, index, "path"), places)
            lines.append(f"{place.value}: {error.message}")
            hint = error.hint
    if lines:
        raise problems(lines, hint=hint)


def _model(recipe: Recipe, key: Key, name: str | None, *, base_dir: Path, places: Mapping[Key, Place]) -> Base | None:
    """The model named at `key`; one that is not here, or reads less than a row, is a mistake of the recipe."""
    if name is None:
        return None
    try:
        found = find_base(name, beside=base_dir)
    except VerificationMismatch:
        raise
    except RhapsodeError as error:
        place = place_of(key, places)
        raise RecipeError(f"{place.value}: {format_key(key)}: {error.message}", error.hint) from None
    context, most = recipe.model.context, found.spec.context
    if context > most:
        place = place_of(("model", "context"), places)
        raise RecipeError(
            f"{place.value}: model.context: {context:,} tokens are more than the {most:,} that {found.title} reads",
            f"set model.context to {most} or less",
        )
    return found
