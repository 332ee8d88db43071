"""The recipe's `task:` section: what the model is for."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from rhapsode.core.config import Config

NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
LONGEST = 64
LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*")


def _check_name(name: str) -> str:
    if not NAME.fullmatch(name) or len(name) > LONGEST:
        what = "{name} is not a name: use at most 64 lower-case letters, digits and single hyphens"
        raise PydanticCustomError("name", what, {"name": repr(name)})
    return name


def _check_language(tag: str) -> str:
    if not LANGUAGE.fullmatch(tag):
        what = "{tag} is not a language tag; write for example en, no or pt-BR"
        raise PydanticCustomError("language", what, {"tag": repr(tag)})
    return tag


Name = Annotated[
    str,
    AfterValidator(_check_name),
    WithJsonSchema({"type": "string", "pattern": f"^{NAME.pattern}$", "maxLength": LONGEST}),
]
LanguageTag = Annotated[
    str, AfterValidator(_check_language), WithJsonSchema({"type": "string", "pattern": f"^{LANGUAGE.pattern}$"})
]


class TaskConfig(Config):
    """Name and purpose go into the model card; the prompts are completed after training, for people to look at."""

    name: Name = Field(description="Name of the run and its model: lower-case letters, digits and single hyphens.")
    purpose: str = Field(default="", description="A sentence that says what the model is for.")
    languages: list[LanguageTag] = Field(
        default=["en"], description="Language tags (BCP 47) of the text: en, no, pt-BR."
    )
    prompts: list[str] = Field(
        default=[], description="Beginnings of text that the trained model is asked to continue."
    )
