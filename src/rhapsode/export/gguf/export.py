"""A model directory -> one GGUF file, which has its name only once it is proven."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import rhapsode
from rhapsode.conformance.readers.llamacpp import INSTALL, is_installed
from rhapsode.core.errors import RhapsodeError
from rhapsode.core.events import Events, stage
from rhapsode.core.manifest import digest, verify
from rhapsode.export.file import writing_file
from rhapsode.export.gguf.encodings import Encoding, find_encoding
from rhapsode.export.gguf.general import general, read_card, title
from rhapsode.export.gguf.proof import Proof, check_tensors, prove
from rhapsode.export.gguf.tokenizer import tokenizer_metadata
from rhapsode.export.gguf.writer import Planned, plan_tensors, write_gguf
from rhapsode.text.tokenizer import Tokenizer
from rhapsode.weights.directory import read_spec, stop_tokens
from rhapsode.weights.foreign import LICENCES
from rhapsode.weights.gguf.architectures import write_settings
from rhapsode.weights.gguf.container import MAGIC

SUFFIX = ".gguf"
UNVERIFIED = "-unverified"
LONGEST_LICENCE = 1 << 18


class Exported(NamedTuple):
    """A file that was written.

    Attributes:
        bits: for each parameter, everything in the file counted.
        fallbacks: how instead, and why -> tensors that cannot be encoded as asked.
        error: of the tensor that lost most to its encoding, 1 for all that it was.
        proof: None where nobody asked for one.
    """

    path: Path
    encoding: Encoding
    bytes: int
    bits: float
    fallbacks: dict[str, list[str]]
    error: float
    proof: Proof | None


def export_gguf(
    directory: Path, out: Path, *, name: str, encoding: str, verified: bool = True, events: Events
) -> Exported:
    """Write the model in `directory` for llama.cpp.

    Args:
        directory: a complete model.
        out: the file, where it ends in .gguf, else the folder for one that is named after the model.
        name: what the model is called.
        encoding: how its matrices are written: a name of `encodings()`.
        verified: load the file in llama.cpp and compare; without, its name ends in -unverified.

    Raises:
        RhapsodeError: the model cannot be said in a GGUF file, llama.cpp is not installed, or the disk is full.
        VerificationMismatch: the directory has changed, or llama.cpp reads another model from the file.
            No file is left in any of these cases.
    """
    kind = find_encoding(encoding)
    if verified and not is_installed():
        raise RhapsodeError(
            "the file could not be proven: llama-cpp-python is not installed",
            f"{INSTALL}; or write the file without a proof, with --unverified",
        )
    manifest, spec, tokenizer = verify(directory), read_spec(directory), Tokenizer.load(directory)
    if spec.head is not None:
        raise RhapsodeError(
            f"the model in {directory} does not write: it {spec.head.purpose}; GGUF files are made of those that do",
            "transformers reads the directory as it is",
        )
    named, settings = title(name, spec=spec), write_settings(spec)
    metadata = {
        **settings.metadata,
        **general(named, kind, manifest=manifest, card=read_card(directory, events=events)),
        **tokenizer_metadata(directory, spec=spec, tokenizer=tokenizer, stops=stop_tokens(directory)),
        **_own(directory),
    }
    tensors = plan_tensors(spec, kind)
    fallbacks = _fallbacks(tensors, kind)
    path = _final_path(out, named.file_name(kind), verified=verified)
    with writing_file(path, magic=MAGIC) as file:
        with stage("write", events):
            write_gguf(
                file,
                directory=directory,
                spec=spec,
                metadata=metadata,
                vectors=settings.vectors,
                tensors=tensors,
                events=events,
            )
        proof = None
        with stage("prove", events):
            error = check_tensors(file, directory=directory, spec=spec, encoding=kind)
            if verified:
                proof = prove(file, directory=directory, spec=spec, tokenizer=tokenizer, encoding=kind, events=events)
        size = file.stat().st_size
    return Exported(path, kind, size, 8 * size / spec.parameters, fallbacks, error, proof)


def _final_path(out: Path, name: str, *, verified: bool) -> Path:
    path = out if out.suffix == SUFFIX else out / name
    if verified or path.stem.endswith(UNVERIFIED):
        return path
    return path.with_name(f"{path.stem}{UNVERIFIED}{SUFFIX}")


def _fallbacks(tensors: Sequence[Planned], kind: Encoding) -> dict[str, list[str]]:
    """How instead, and why -> names of tensors.

    Raises:
        RhapsodeError: no tensor at all can be encoded as asked.
    """
    found: dict[str, list[str]] = {}
    for planned in tensors:
        if planned.encoded.reason:
            found.setdefault(f"{planned.encoded.type.name}: {planned.encoded.reason}", []).append(planned.link.gguf)
    if not any(planned.encoded.type == kind.type for planned in tensors):
        raise RhapsodeError(
            f"no tensor of this model can be {kind.name}: {next(iter(found)).partition(': ')[2]}",
            "choose an encoding with smaller blocks, for example q8_0, or f16",
        )
    return found


def _own(directory: Path) -> dict[str, str]:
    """Our own keys: they lead back to the directory, and what the publisher asks of users travels in the file."""
    papers = sorted({path for pattern in LICENCES for path in directory.glob(pattern) if path.is_file()})
    short = [path for path in papers if path.stat().st_size <= LONGEST_LICENCE]
    return {f"rhapsode.licence.{path.name}": path.read_text("utf-8", "replace") for path in short} | {
        "rhapsode.version": rhapsode.__version__,
        "rhapsode.source.manifest_sha256": digest(directory),
    }
