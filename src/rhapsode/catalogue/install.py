"""From fetched files to a complete model directory of the store, with its evidence and its licence beside it."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from rhapsode.catalogue.entries import Kind
from rhapsode.catalogue.licences import Terms
from rhapsode.catalogue.store import KIND, check_name, models_dir
from rhapsode.core.events import Events, stage
from rhapsode.core.manifest import writing
from rhapsode.core.units import format_count

CARD = """\
---
license: {licence}
library_name: transformers
pipeline_tag: text-generation
tags:
- rhapsode
---

# {name}

A {family} model of {parameters} parameters. {weights}

- source: `{origin}`
- revision: `{revision}`
- licence: {title}{kept}

`manifest.json` holds the sha256 of every file; `rhapsode verify` replays `conformance/` in any reader.
"""
TAKEN = "Its weights are the publisher's own files, byte for byte."
CONVERTED = "Its weights are those of a GGUF file, every number expanded to the precision that `config.json` names."


class Provenance(NamedTuple):
    """Where a model comes from, what came with it, and whether it answers, where somebody knows."""

    origin: str
    revision: str
    terms: Terms | None
    papers: Mapping[str, bytes]
    kind: Kind | None = None


def install(source: Path, *, name: str, provenance: Provenance, events: Events) -> Path:
    """Make the store's directory `name` from a Hugging Face directory or a GGUF file, completely or not at all.

    Raises:
        RhapsodeError: it is damaged, of an unknown family, or the disk is full. Nothing is left under the name.
    """
    from rhapsode.conformance.vectors import add_conformance

    path = models_dir() / check_name(name)
    licence = provenance.terms.licence.id if provenance.terms else "unknown"
    facts = {"source": provenance.origin, "revision": provenance.revision, "licence": licence}
    with writing(path, kind=KIND, facts=facts) as work:
        with stage("convert", events):
            description = _take_in(source, work.path, events=events)
        has_template = (work.path / "chat_template.jinja").is_file()
        # some base models carry the template of their kin that answer
        work.facts["objective"] = "chat" if has_template and provenance.kind != "base" else "next_token"
        card = _card(name, description, provenance=provenance, is_converted=source.is_file())
        for file, content in {"README.md": card.encode(), **provenance.papers}.items():
            place = work.path / file
            place.unlink(missing_ok=True)  # it may be a second name of the publisher's own file
            place.write_bytes(content)
        with stage("conformance", events):
            add_conformance(work.path, events=events)
    return path


class _Description(NamedTuple):
    family: str
    parameters: int


def _take_in(source: Path, into: Path, *, events: Events) -> _Description:
    if source.is_file():
        from rhapsode.weights.gguf.convert import convert_gguf

        spec = convert_gguf(source, into, events=events)
    else:
        from rhapsode.weights.directory import import_directory

        spec = import_directory(source, into, events=events)
    return _Description(spec.family, spec.parameters)


def _card(name: str, description: _Description, *, provenance: Provenance, is_converted: bool) -> str:
    terms = provenance.terms
    papers = [file for file in provenance.papers if file.upper().startswith(("LICENSE", "LICENCE"))]
    return CARD.format(
        licence=terms.licence.id if terms else "unknown",
        name=name,
        family=description.family,
        parameters=format_count(description.parameters),
        weights=CONVERTED if is_converted else TAKEN,
        origin=provenance.origin,
        revision=provenance.revision or "not known",
        title=f"{terms.licence.name}, {terms.place if not papers else terms.licence.url}" if terms else "not known",
        kept=f"; its text is in `{papers[0]}`" if papers else "",
    )
