"""Taking in a model directory that somebody else made: its values are looked at, its files linked or copied."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch

from rhapsode.core.errors import RhapsodeError, VerificationMismatch
from rhapsode.core.events import Events
from rhapsode.corpus.progress import Progress
from rhapsode.model.spec import ModelSpec
from rhapsode.weights.layout import Layout, check_head, embedding_name
from rhapsode.weights.safetensors import TensorFile, identity
from rhapsode.weights.shard_writer import write_index
from rhapsode.weights.shards import Weights
from rhapsode.weights.strangers import pickles

COPY_BYTES = 16 << 20
SHOWN = 5
LICENCES = ("LICENSE*", "LICENCE*", "NOTICE*", "COPYING*", "USE_POLICY*")


def check_values(weights: Weights, layout: Layout, *, spec: ModelSpec, events: Events, allow_not_finite: bool) -> None:
    """Look at every number once.

    Raises:
        RhapsodeError: some are infinite or no numbers, or a head that should be the embedding is not.
    """
    entries = {name: weights.tensors[name] for name in layout.names.values()}
    total = sum(entry.stop - entry.start for entry in entries.values())
    progress = Progress(events, stage="check", total=total, unit="bytes")
    bad = []
    for name, entry in entries.items():
        if not all(_is_finite(block) for block in weights.blocks(name)):
            bad.append(name)
        progress.advance(entry.stop - entry.start)
    progress.finish()
    if bad:
        more = f" and {len(bad) - SHOWN} more" if len(bad) > SHOWN else ""
        message = f"{weights.directory} has weights that are infinite or no number: {', '.join(bad[:SHOWN])}{more}"
        if not allow_not_finite:
            raise RhapsodeError(message, "such a model computes nothing; get its files again")
        events.emit("warning", message=message)
    if layout.head is not None:
        embedding = weights.tensor(layout.names[embedding_name(spec)])
        check_head(weights.blocks(layout.head), embedding, name=layout.head, where=weights.directory)


def take_files(weights: Weights, into: Path, *, events: Events) -> None:
    """Put the files that are open into `into`, under their own names, with an index if there is more than one.

    Raises:
        VerificationMismatch: one was replaced or written over since it was opened.
        OSError: what the system said, for example that the disk is full.
    """
    progress = Progress(events, stage="copy", total=weights.num_bytes, unit="bytes")
    for name, file in weights.files.items():
        if _link(file, into / name):
            progress.advance(file.identity.size)
        else:
            for size in _copy(file, into / name):
                progress.advance(size)
        file.check_unchanged()
    progress.finish()
    if weights.is_indexed:
        write_index(
            into, {name: [(t, e.stop - e.start) for t, e in f.tensors.items()] for name, f in weights.files.items()}
        )


def copy_licence(source: Path, into: Path) -> None:
    """What the publisher asks of users goes where the model goes."""
    for pattern in LICENCES:
        for path in sorted(source.glob(pattern)):
            if path.is_file() and not (into / path.name).exists():
                shutil.copyfile(path, into / path.name)


def tell_what_stays(source: Path, into: Path, *, events: Events) -> None:
    """Say which weights and programs of the source are not used: other formats of the same model, as a rule."""
    others = [path.name for pattern in ("*.safetensors", "*.gguf", "*.py") for path in source.glob(pattern)]
    stay = [name for name in sorted({*pickles(source), *others}) if not (into / name).exists()]
    if stay:
        more = f" and {len(stay) - SHOWN} more" if len(stay) > SHOWN else ""
        events.emit("warning", message=f"{source}: left behind and never opened: {', '.join(stay[:SHOWN])}{more}")


def _is_finite(block: torch.Tensor) -> bool:
    """The extremes of a block are no numbers if any of it is none."""
    return bool(torch.isfinite(torch.stack(torch.aminmax(block))).all())


def _link(file: TensorFile, path: Path) -> bool:
    """Give the file a second name; False where the file system or its owner does not allow that."""
    if os.fstat(file.file).st_uid != os.geteuid():
        return False
    try:
        path.hardlink_to(file.path.resolve())
    except OSError:
        return False
    if identity(path.stat()) != file.identity:
        raise VerificationMismatch(f"{file.path} was changed while it was read", "leave it alone and try again")
    return True


def _copy(file: TensorFile, path: Path) -> Iterator[int]:
    """Copy what is open, whatever its name now leads to; yields how many bytes have come since the last."""
    at = 0
    with path.open("wb", buffering=0) as out:
        while count := os.sendfile(out.fileno(), file.file, at, COPY_BYTES):
            at += count
            yield count
    if at != file.identity.size:
        raise VerificationMismatch(f"{file.path} was changed while it was read", "leave it alone and try again")
