"""`rhapsode export`: a model for other software."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from rhapsode.cli import options
from rhapsode.cli.console import give, table
from rhapsode.core.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from rhapsode.core.events import Events
    from rhapsode.export.gguf.distributions import Distance
    from rhapsode.export.gguf.export import Exported

USUAL = {"gguf": "q8_0", "safetensors": "bf16"}


def export(
    model: options.Model,
    /,
    *,
    kind: Annotated[
        Literal["gguf", "safetensors"],
        Parameter(name="--format", help="One file for llama.cpp and what builds on it, or a model directory."),
    ] = "gguf",
    encoding: Annotated[
        str | None,
        Parameter(
            name="--encoding",
            help="f32, f16 or bf16; in a GGUF file also q8_0, which is usual there, q5_1, q5_0, q4_1, q4_0 and others.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path, Parameter(name="--out", help="A folder, or a file that ends in .gguf.")] = options.OUT,
    unverified: Annotated[
        bool,
        Parameter(
            name="--unverified",
            help="Write a GGUF file without loading it in llama.cpp; its name says so.",
            negative="",
            show_default=False,
        ),
    ] = False,
    json: options.Json = False,
) -> None:
    """Write a model for other software, and prove that it is the same model there.

    A GGUF file gets its name only after llama.cpp has read the same ids and computed the same next tokens.
    """
    from rhapsode.cli.models import find_model
    from rhapsode.cli.progress import watched

    directory = find_model(model)
    wanted = encoding or USUAL[kind]
    with watched() as events:
        if kind == "gguf":
            _gguf(directory, wanted, out, is_verified=not unverified, as_json=json, events=events)
        else:
            _safetensors(directory, wanted, out, as_json=json, events=events)


def _gguf(directory: Path, encoding: str, out: Path, *, is_verified: bool, as_json: bool, events: Events) -> None:
    from rhapsode.export.gguf.export import export_gguf
    from rhapsode.weights.names import model_name

    found = export_gguf(
        directory, out, name=model_name(directory), encoding=encoding, verified=is_verified, events=events
    )
    give(_as_json(found), as_json=as_json, show=lambda console: _show(console, found))


def _safetensors(directory: Path, encoding: str, out: Path, *, as_json: bool, events: Events) -> None:
    from rhapsode.export.safetensors import export_safetensors
    from rhapsode.weights.names import model_name

    path = export_safetensors(directory, out, name=model_name(directory), encoding=encoding.lower(), events=events)
    give({"path": str(path)}, as_json=as_json, show=lambda console: console.print(f"model  {path}", soft_wrap=True))


def _as_json(found: Exported) -> dict[str, Any]:
    proof = found.proof
    compared = (
        {
            "strings": proof.strings,
            "distance": proof.distance.as_json(),
            "cost": proof.cost.as_json(),
        }
        if proof
        else None
    )
    return {
        "path": str(found.path),
        "encoding": found.encoding.name,
        "bytes": found.bytes,
        "bits_per_weight": round(found.bits, 3),
        "fallbacks": found.fallbacks,
        "largest_error": found.error,
        "verified": compared,
    }


def _show(console: Console, found: Exported) -> None:
    console.print(table("Exported", ("", ""), list(_rows(found))))
    console.print(f"file  {found.path}", soft_wrap=True)


def _rows(found: Exported) -> Iterator[tuple[str, str]]:
    yield "encoding", f"{found.encoding.name}, {found.bits:.2f} bits a weight"
    yield "size", format_bytes(found.bytes)
    for reason, names in found.fallbacks.items():
        yield "not as asked", f"{len(names)} tensors are {reason}"
    yield "tensors", f"read back from the file, off by {found.error:.2%} of their size at most"
    proof = found.proof
    if proof is None:
        yield "llama.cpp", "not asked: nobody has proven that it reads this file"
        return
    yield "ids in llama.cpp", f"the same for {proof.strings:,} strings"
    yield "next tokens there", f"{_apart(proof.distance)} from ours with the weights of the file"
    yield "cost of the encoding", f"{_apart(proof.cost)} from the model itself"


def _apart(distance: Distance) -> str:
    return (
        f"the likeliest is the same in {distance.agreement:.0%} of {distance.places} places; "
        f"{distance.median:.1g} nats in the median, {distance.largest:.1g} at most,"
    )
