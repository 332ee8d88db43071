"""The licences of the catalogue's models, and which of them somebody here has accepted.

A permissive licence asks for nothing before use and is only shown. Any other is accepted once, by its name, and the
acceptance is kept with the date and the hash of the text: a changed text is a new licence and is asked for again.
"""

import datetime as dt
import hashlib
import os
from collections.abc import Collection
from typing import NamedTuple

from rhapsode.core.errors import RhapsodeError
from rhapsode.core.home import read_record, write_record

ENVIRONMENT = "RHAPSODE_ACCEPT_LICENCES"
RECORD = "licences.json"


class Licence(NamedTuple):
    """`id` as model cards write it, which is what a person types; `asks` is a line, what binds is the text at `url`."""

    id: str
    name: str
    url: str
    asks: str
    is_permissive: bool = False


class Terms(NamedTuple):
    """A licence as it came with a model: `text` is its own words where they came, `place` where a person finds them."""

    licence: Licence
    text: bytes | None
    place: str

    @property
    def sha256(self) -> str:
        """Of the text; of what we say about the licence where the text did not come with the model."""
        said = f"{self.licence.id}\n{self.licence.name}\n{self.licence.url}".encode()
        return hashlib.sha256(said if self.text is None else self.text).hexdigest()


class NotAccepted(RhapsodeError):
    """A licence that must be accepted first; whoever can ask a person does so with these terms."""

    def __init__(self, message: str, hint: str, *, terms: Terms) -> None:
        super().__init__(message, hint)
        self.terms = terms


LICENCES = {
    licence.id: licence
    for licence in (
        Licence(
            "apache-2.0",
            "Apache License 2.0",
            "https://www.apache.org/licenses/LICENSE-2.0",
            "keep the notices with every copy",
            is_permissive=True,
        ),
        Licence(
            "mit",
            "MIT License",
            "https://opensource.org/license/mit",
            "keep the notice with every copy",
            is_permissive=True,
        ),
        Licence(
            "gemma",
            "Gemma Terms of Use",
            "https://ai.google.dev/gemma/terms",
            "no use that Google's prohibited-use policy lists, and whoever gets the model or one made from it gets "
            "these terms with it",
        ),
        Licence(
            "llama3.2",
            "Llama 3.2 Community License",
            "https://www.llama.com/llama3_2/license/",
            "follow Meta's acceptable-use policy, say 'Built with Llama', begin the names of models made from it with "
            "Llama, pass the licence on; services above 700 million monthly users ask Meta first",
        ),
        Licence(
            "bigcode-openrail-m",
            "BigCode OpenRAIL-M v1",
            "https://huggingface.co/spaces/bigcode/bigcode-model-license-agreement",
            "no use that its attachment A lists, and whoever gets the model or one made from it is bound alike",
        ),
        Licence(
            "stabilityai",
            "Stability AI licence of the repository",
            "https://huggingface.co/stabilityai/stablelm-2-1_6b/blob/main/LICENSE.md",
            "read it before any commercial use, which may need a membership (https://stability.ai/membership)",
        ),
    )
}


def licence_named(name: str | None, *, title: str | None = None, url: str = "") -> Licence | None:
    """The licence that a model card names, known to us or not; None if the card names none."""
    if not name:
        return None
    if known := LICENCES.get(name):
        return known
    own = title or name
    return Licence(own, own, url, "Rhapsode does not know this licence: read it before use")


def require(terms: Terms, *, accept: Collection[str]) -> None:
    """Go on only if the licence is permissive, was accepted before, or is named in `accept` or the environment.

    Raises:
        NotAccepted: it is not; the hint says how to.
    """
    licence = terms.licence
    if licence.is_permissive or is_accepted(terms):
        return
    if licence.id.casefold() in {name.casefold() for name in (*accept, *environment_names())}:
        record(terms)
        return
    state = "has changed since it was accepted" if _accepted_texts(licence) else "has not been accepted"
    raise NotAccepted(
        f"the licence of this model, {licence.name}, {state}; it asks: {licence.asks}",
        f"read it ({terms.place}), then accept it by name: --accept {licence.id} with `rhapsode models pull`, "
        f"or {ENVIRONMENT}={licence.id} in the environment",
        terms=terms,
    )


def is_accepted(terms: Terms) -> bool:
    """Whether this very text was accepted here."""
    return terms.sha256 in _accepted_texts(terms.licence)


def environment_names() -> list[str]:
    """The licences that RHAPSODE_ACCEPT_LICENCES names, with commas between."""
    return [name.strip() for name in os.environ.get(ENVIRONMENT, "").split(",") if name.strip()]


def _accepted_texts(licence: Licence) -> dict[str, str]:
    """The hashes of the texts that were accepted, with the date; what is damaged counts as nothing."""
    entry = read_record(RECORD).get(licence.id)
    texts = entry.get("texts") if isinstance(entry, dict) else None
    return texts if isinstance(texts, dict) else {}


def record(terms: Terms) -> None:
    """Keep that somebody accepted this text, and when."""
    now = dt.datetime.now(tz=dt.UTC).isoformat(timespec="seconds")
    entry = {"url": terms.licence.url, "texts": _accepted_texts(terms.licence) | {terms.sha256: now}}
    write_record(RECORD, read_record(RECORD) | {terms.licence.id: entry})
