"""Which other reader a person means, and the replay in it."""

from pathlib import Path
from typing import Literal, NamedTuple

from rhapsode.conformance.differences import FLOAT32, OWN, ROUNDED
from rhapsode.conformance.endpoint_replay import replay_endpoint
from rhapsode.conformance.evidence import FOLDER, LOGITS, VECTORS
from rhapsode.conformance.readers.endpoint import Endpoint
from rhapsode.conformance.readers.engine import EngineReader
from rhapsode.conformance.readers.llamacpp import INSTALL, LlamaCpp, is_installed
from rhapsode.conformance.readers.transformers import TransformersReader
from rhapsode.conformance.replay import replay
from rhapsode.conformance.report import Report
from rhapsode.core.errors import RecipeError, RhapsodeError, VerificationMismatch
from rhapsode.core.events import Events
from rhapsode.core.manifest import Manifest

Kind = Literal["transformers", "llama.cpp", "gguf", "endpoint"]


class Peer(NamedTuple):
    """Another reader: transformers on the same directory, llama.cpp on an export of it or on a file, or a server."""

    kind: Kind
    place: str


def parse_peer(text: str) -> Peer:
    """What `--against` names.

    Raises:
        RecipeError: it is none of them.
        RhapsodeError: it is llama.cpp, which is not there.
    """
    if text == "transformers":
        return Peer("transformers", "")
    if text == "llama.cpp":
        if not is_installed():
            raise RhapsodeError("llama-cpp-python is not installed", INSTALL)
        return Peer("llama.cpp", "")
    if text.startswith(("http://", "https://")):
        return Peer("endpoint", text)
    if text.lower().endswith(".gguf"):
        if not Path(text).is_file():
            raise RecipeError(f"{text} does not exist", "name the GGUF file that llama.cpp is to read")
        return Peer("gguf", text)
    raise RecipeError(
        f"--against: {text!r} is no reader",
        "give transformers, llama.cpp, a file that ends in .gguf (which llama.cpp reads), or the address of a server",
    )


def check_evidence(directory: Path, manifest: Manifest) -> None:
    """See that there is evidence to replay, in a directory whose files are those of its manifest.

    Raises:
        RhapsodeError: there is none.
        VerificationMismatch: it is not in the manifest, so somebody put it there later, and it proves nothing.
    """
    found = [f"{FOLDER}/{name}" for name in (VECTORS, LOGITS) if (directory / FOLDER / name).exists()]
    if not found:
        raise RhapsodeError(
            f"{directory}: its files are what the manifest says, and it carries no evidence ({FOLDER}/) to replay",
            "train or pull the model again: every model that this version writes carries it",
        )
    if unlisted := [name for name in found if name not in manifest.files]:
        raise VerificationMismatch(
            f"{directory / unlisted[0]} is not in manifest.json: it was added after the model was written",
            "remove it, or train or pull the model again",
        )


def replay_here(directory: Path, *, events: Events | None = None) -> Report:
    """Replay the evidence in our own engine. Raises as `replay`."""
    return replay(directory, EngineReader(directory), bounds=OWN, events=events)


def replay_against(directory: Path, peer: Peer, *, name: str, events: Events | None = None) -> Report:
    """Replay the evidence in another reader.

    Args:
        peer: any but an export for llama.cpp, which whoever asks for it makes first.
        name: what the model is called, which a server that offers several may know.

    Raises:
        RhapsodeError: there is no evidence, or the reader is not there or failed.
        VerificationMismatch: the reader cannot read the model at all.
    """
    if peer.kind == "transformers":
        return replay(directory, TransformersReader(directory), bounds=FLOAT32, events=events)
    if peer.kind == "gguf":
        with LlamaCpp(Path(peer.place)) as reader:
            return replay(directory, reader, bounds=ROUNDED, events=events)
    assert peer.kind == "endpoint"
    return replay_endpoint(directory, Endpoint(peer.place, name=name), events=events)
