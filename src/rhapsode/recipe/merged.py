"""Several models of one shape made one, as complete as any that is trained: with a card, evidence and licences.

How it is asked is that of the first model, whose tokenizer and template it has. So a tuned model and its base, in this
order, give one between them: less of the task, and more of what tuning forgot (Wortsman et al. 2022, arXiv:2109.01903).
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

from rhapsode.conformance.vectors import add_conformance
from rhapsode.core.manifest import digest, read_manifest
from rhapsode.recipe.begin import FACT
from rhapsode.recipe.card import front_matter, use_of
from rhapsode.weights.card import CARD
from rhapsode.weights.directory import read_spec
from rhapsode.weights.merge.methods import Method
from rhapsode.weights.merge.models import merge_models
from rhapsode.weights.names import model_name

ASKED = ("objective", "chat", FACT)
"""What a manifest tells of how a model is asked."""

BODY = """\
# {name}

Made by Rhapsode of other models' weights, by {method}; nothing was trained for it.

{made_of}

## Use

{use}

## Evidence

- `manifest.json` holds the sha256 of every file here and of the models it was made of
- what it is worth nobody has measured yet: `rhapsode evaluate RECIPE --model {path}`
"""


class _Ingredient(NamedTuple):
    """A model that another one is made of, for people."""

    name: str
    licence: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.name} (licence: {self.licence}; manifest `{self.sha256}`)"


def merge(models: Sequence[Path], out: Path, *, method: Method, base: Path | None) -> Path:
    """Write the model that `method` makes of `models`, in bfloat16.

    Raises:
        RhapsodeError: as `merge_models`.
        VerificationMismatch: a directory has changed since it was written.
    """
    everything = [*models, *([base] if base else [])]
    made_of = [_ingredient(path) for path in everything]
    known = read_manifest(models[0]).facts
    licence = " and ".join(dict.fromkeys(one.licence for one in made_of))
    facts = {"licence": licence, **{key: known[key] for key in ASKED if key in known}}
    spec = read_spec(models[0])
    card = front_matter(spec, licence=licence, base=[one.name for one in made_of]) + BODY.format(
        name=out.name,
        method=told(method),
        made_of="\n".join(f"- {one}" for one in made_of) + ("\n\nThe last is what they differ from." if base else ""),
        use=use_of(spec, path=f"out/merged/{out.name}"),
        path=f"out/merged/{out.name}",
    )
    prove = partial(_prove, card=card)
    return merge_models(models, out, method=method, base=base, dtype=torch.bfloat16, facts=facts, prove=prove)


def told(method: Method) -> str:
    """A method with its numbers, such as "linear (shares 0.6 0.4)"."""
    values = {key: value for key, value in vars(method).items() if key != "is_mean"}
    numbers = [f"{key} {_numbers(value)}" for key, value in values.items()]
    return f"{type(method).__name__.lower()} ({', '.join(numbers)})"


def _ingredient(directory: Path) -> _Ingredient:
    licence = str(read_manifest(directory).facts.get("licence", "unknown"))
    return _Ingredient(model_name(directory), licence, digest(directory)[:12])


def _prove(directory: Path, *, card: str) -> None:
    (directory / CARD).write_text(card, encoding="utf-8")
    add_conformance(directory)


def _numbers(value: float | Sequence[float]) -> str:
    return " ".join(f"{one:g}" for one in (value if isinstance(value, Sequence) else [value]))
