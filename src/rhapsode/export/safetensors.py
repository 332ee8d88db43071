"""A model directory -> another with the same model in another type of number."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from rhapsode.conformance.vectors import add_conformance
from rhapsode.core.errors import RhapsodeError
from rhapsode.core.events import Events, stage
from rhapsode.core.manifest import digest, read_manifest, writing
from rhapsode.model.decoder import Decoder
from rhapsode.weights.directory import load_model, stop_tokens, write_model
from rhapsode.weights.foreign import copy_licence

DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


def export_safetensors(directory: Path, out: Path, *, name: str, encoding: str, events: Events) -> Path:
    """Write the model in `directory` as `out`/`name`-ENCODING, with evidence and a manifest of its own.

    Raises:
        RhapsodeError: the encoding is not one of `DTYPES`, a number does not fit into it, or the disk is full.
        VerificationMismatch: the directory has changed since it was written.
    """
    if encoding not in DTYPES:
        raise RhapsodeError(f"safetensors are not written as {encoding!r}", f"choose one of {', '.join(DTYPES)}")
    path = out / f"{name}-{encoding}"
    manifest = read_manifest(directory)
    with writing(path, kind=manifest.kind, inputs={"model": digest(directory)}, facts=manifest.facts) as work:
        with stage("write", events):
            model = load_model(directory)
            write_model(
                work.path,
                spec=model.spec,
                weights=_rounded(model, DTYPES[encoding]),
                tokenizer_dir=directory,
                stops=stop_tokens(directory),
            )
            copy_licence(directory, work.path)
            if (directory / "README.md").is_file():
                (work.path / "README.md").write_bytes((directory / "README.md").read_bytes())
        del model
        with stage("conformance", events):
            add_conformance(work.path, events=events)
    return path


def _rounded(model: Decoder, dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
    for name, parameter in model.named_parameters():
        value = parameter.detach()
        rounded = value.to(dtype)
        if not torch.isfinite(rounded).all():
            largest, kind = float(value.abs().max()), str(dtype).removeprefix("torch.")
            raise RhapsodeError(
                f"{name} holds {largest:.3g}, for which {kind} has no room", "export with --encoding bf16 or f32"
            )
        yield name, rounded
