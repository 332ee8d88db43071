"""From plain values to a typed configuration, with every mistake named where it stands.

recipes/mine.yaml:12: train.optimiser: unknown key 'optimiser'; did you mean 'optimizer'?
"""

import difflib
import json
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from pydantic_core.core_schema import ErrorType

from rhapsode.core.config import Config
from rhapsode.core.errors import RecipeError
from rhapsode.core.yaml import Document, Key, Place, format_key

SHOWN = 10

C = TypeVar("C", bound=Config)

_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a section of `key: value` lines",
    "model_type": "a section of `key: value` lines",
    "model_attributes_type": "a section of `key: value` lines",
}


def validate(model: type[C], document: Document) -> C:
    """Build `model` from a document.

    Raises:
        RecipeError: every mistake, one a line, at most `SHOWN` of them.
    """
    try:
        # As JSON, so that a list may become a tuple and text a path while all else stays strict.
        return model.model_validate_json(json.dumps(document.value))
    except ValidationError as error:
        details = error.errors(include_url=False)
    raise problems([_line(model, document, detail) for detail in details])


def problems(lines: list[str], *, hint: str = "") -> RecipeError:
    """One error out of many lines, without repeats."""
    lines = list(dict.fromkeys(lines))
    more = [f"... and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return RecipeError("\n".join(lines[:SHOWN] + more), hint)


def place_of(key: Key, places: Mapping[Key, Place]) -> Place:
    """Where `key` stands, or what is nearest around it."""
    return next((places[key[:size]] for size in range(len(key), -1, -1) if key[:size] in places), Place("", ""))


def fields_at(model: type[BaseModel], key: Key) -> list[str]:
    """The names that may stand below `key`. A step may also be the tag that chooses a member of a union."""
    models = [model]
    for step in key:
        if any(step in m.model_fields for m in models):
            found = [m.model_fields[str(step)].annotation for m in models if step in m.model_fields]
            models = [inner for annotation in found for inner in _models_in(annotation)]
        elif isinstance(step, str):
            models = [m for m in models if any(step in get_args(f.annotation) for f in m.model_fields.values())]
    return list(dict.fromkeys(name for m in models for name in m.model_fields))


def _line(model: type[BaseModel], document: Document, detail: ErrorDetails) -> str:
    key, value = _find(document.value, detail)
    place = place_of(key, document.places)
    at = place.key if detail["type"] in ("extra_forbidden", "missing") else place.value
    return f"{at}: {format_key(key) or 'recipe'}: {_say(model, value, detail)}"


def _find(data: Any, detail: ErrorDetails) -> tuple[Key, Any]:
    """The key of an error in the document. Pydantic adds the names of union members to its path; they are left out."""
    *way, last = detail["loc"] or ("",)
    key: list[str | int] = []
    for step in (*way, last):
        children = data if isinstance(data, dict) else dict(enumerate(data)) if isinstance(data, list) else {}
        if step in children:
            data = children[step]
            key.append(step)
    match detail["type"]:
        case "missing":
            key.append(last)
        case "union_tag_invalid" | "union_tag_not_found":
            tag = detail["ctx"]["discriminator"].strip("'")
            key, data = [*key, tag], data.get(tag)
    return tuple(key), data


def _say(model: type[BaseModel], value: Any, detail: ErrorDetails) -> str:
    kind = detail["type"]
    if kind in ("missing", "union_tag_not_found"):
        return "missing; this key is needed"
    if kind == "extra_forbidden":
        *way, name = detail["loc"]
        return _unknown(str(name), fields_at(model, tuple(way)))
    if kind in ("literal_error", "union_tag_invalid"):
        return _choose(value, detail["ctx"].get("expected") or detail["ctx"]["expected_tags"])
    if kind in _EXPECTED:
        return f"expected {_EXPECTED[kind]}, got {_shown(value)}"
    message = detail["msg"].removeprefix("Value error, ")
    is_ours = kind == "value_error" or kind not in get_args(ErrorType)
    return message if is_ours else f"{_shown(value)}: {message[:1].lower()}{message[1:]}"


def _unknown(name: str, known: list[str]) -> str:
    """What to say about a key that does not exist."""
    near = difflib.get_close_matches(name, known, n=1)
    advice = (
        f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}" if known else "no key goes here"
    )
    return f"unknown key {name!r}; {advice}"


def _choose(value: Any, expected: str) -> str:
    allowed = [choice.strip("'") for choice in expected.replace(" or ", ", ").split(", ")]
    near = difflib.get_close_matches(str(value), allowed, n=1)
    return f"{_shown(value)} is not one of {', '.join(allowed)}" + (f"; did you mean {near[0]!r}?" if near else "")


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, bool | dict | list) else repr(value)
    text = text if len(text) <= 60 else text[:57] + "..."
    return f"text {text}" if isinstance(value, str) else text


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_in(inner)
