"""`rhapsode verify`: a model's files against its manifest, and its evidence against whoever reads it."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from rhapsode.cli import options
from rhapsode.cli.console import give, table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console

    from rhapsode.conformance.against import Peer
    from rhapsode.conformance.report import Check, Report
    from rhapsode.core.events import Events


def verify(
    model: options.Model,
    /,
    *,
    against: Annotated[
        str | None,
        Parameter(
            name="--against",
            help="Another reader: transformers, llama.cpp (which reads the model written as GGUF), a FILE.gguf that it "
            "reads instead, or the address of an OpenAI-compatible server (key in OPENAI_API_KEY).",
            metavar="READER",
            show_default=False,
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Prove that a model is what was written, and that it reads the same here and in another program.

    First every file is hashed again. Then the texts and conversations that lie in conformance/ are read again: ids,
    scores, greedy text, end tokens. What is wrong is named, and the exit code is 5; what could not be compared is said.
    A model without conformance/ has only its files checked, which is not enough for exit code 0.
    """
    from rhapsode.cli.models import find_model
    from rhapsode.cli.progress import watched
    from rhapsode.conformance.against import check_evidence, parse_peer, replay_against, replay_here
    from rhapsode.conformance.report import require
    from rhapsode.core.manifest import verify as check_files
    from rhapsode.weights.names import model_name

    peer = None if against is None else parse_peer(against)
    directory = find_model(model)
    manifest = check_files(directory)
    check_evidence(directory, manifest)
    with watched() as events:
        reports = [replay_here(directory, events=events)]
        if peer is not None:
            name = model_name(directory)
            with _written_if_needed(directory, peer, name=name, events=events) as there:
                reports.append(replay_against(directory, there, name=name, events=events))
    result = {
        "model": str(directory),
        "files": len(manifest.files),
        "reports": [report.as_json() for report in reports],
    }
    give(result, as_json=json, show=lambda console: _show(console, len(manifest.files), reports))
    require(reports, model=str(directory))


@contextlib.contextmanager
def _written_if_needed(directory: Path, peer: Peer, *, name: str, events: Events) -> Iterator[Peer]:
    """llama.cpp reads no model directories: for it, the model is written as a GGUF file and removed again."""
    from rhapsode.conformance.against import Peer
    from rhapsode.export.gguf.export import export_gguf

    if peer.kind != "llama.cpp":
        yield peer
        return
    with tempfile.TemporaryDirectory() as folder:
        file = export_gguf(directory, Path(folder), name=name, encoding="f16", verified=False, events=events)
        yield Peer("gguf", str(file.path))


def _show(console: Console, num_files: int, reports: Sequence[Report]) -> None:
    console.print(f"files: all {num_files} are what the manifest says")
    for report in reports:
        rows = [
            (check.name, check.verdict, f"{check.compared} of {check.of}", _figure(check)) for check in report.checks
        ]
        console.print(table(f"In {report.reader}", ("", "", "compared", ""), rows, right=(2,)))
        for note in report.notes:
            console.print(f"  {note}", soft_wrap=True)


def _figure(check: Check) -> str:
    figure = check.figure
    return "" if figure is None else f"{figure.name} {figure.value:.2g}, may be {figure.bound:g}"
