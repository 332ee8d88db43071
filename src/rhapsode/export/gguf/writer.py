"""Writes a GGUF file: first everything that it says, then the tensors, one in memory at a time."""

import errno
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from gguf import GGUFWriter
from gguf.quants import quant_shape_to_byte_shape

from rhapsode.core.events import Events
from rhapsode.corpus.progress import Progress
from rhapsode.export.gguf.encodings import Array, Encoded, Encoding, encode, encoded_as
from rhapsode.model.spec import ModelSpec
from rhapsode.weights.gguf.architectures import Link, links
from rhapsode.weights.gguf.facts import Vector
from rhapsode.weights.layout import match
from rhapsode.weights.shards import Weights


class Planned(NamedTuple):
    """A tensor of the file: where its numbers come from and how they are encoded."""

    link: Link
    encoded: Encoded

    @property
    def num_bytes(self) -> int:
        return int(np.prod(quant_shape_to_byte_shape(self.link.shape, self.encoded.type), dtype=np.int64))


def plan_tensors(spec: ModelSpec, encoding: Encoding) -> list[Planned]:
    """Every tensor of a decoder, in the order of the file."""
    return [Planned(link, encoded_as(link.gguf, link.shape, encoding)) for link in links(spec)]


def write_gguf(
    path: Path,
    *,
    directory: Path,
    spec: ModelSpec,
    metadata: Mapping[str, Any],
    vectors: Mapping[str, Vector],
    tensors: Sequence[Planned],
    events: Events,
) -> None:
    """Write the model in `directory`.

    Args:
        metadata: key -> value; a whole number is written as unsigned with 32 bits.
        vectors: tensors that stand for settings.
        tensors: all others.

    Raises:
        RhapsodeError: a number does not fit into its encoding, or the weights changed while they were read.
        OSError: what the system said, for example that the disk is full.
    """
    _check_room(path.parent, sum(planned.num_bytes for planned in tensors))
    writer = GGUFWriter(path, metadata["general.architecture"])
    try:
        for key, value in metadata.items():
            if key != "general.architecture":
                _add(writer, key, value)
        for name, vector in vectors.items():
            writer.add_tensor_info(name, vector.shape, vector.dtype, vector.nbytes)
        for planned in tensors:
            kind = planned.encoded.type
            shape = quant_shape_to_byte_shape(planned.link.shape, kind)
            writer.add_tensor_info(planned.link.gguf, shape, np.dtype(np.uint8), planned.num_bytes, raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for vector in vectors.values():
            _put(writer, [vector])
        _write_tensors(writer, directory, spec, tensors, events)
        writer.flush()
    finally:
        writer.close()


def _write_tensors(
    writer: GGUFWriter, directory: Path, spec: ModelSpec, tensors: Sequence[Planned], events: Events
) -> None:
    progress = Progress(events, stage="write", total=sum(planned.num_bytes for planned in tensors), unit="bytes")
    with Weights(directory) as weights:
        names = match(weights.tensors, spec, where=directory).names
        for planned in tensors:
            parts = _numbers(planned.link, weights, names, head_dim=spec.head_dim)
            _put(writer, (encode(part, planned.encoded.type, name=planned.link.gguf) for part in parts))
            progress.advance(planned.num_bytes)
        weights.check_in_place()
    progress.finish()


def _numbers(link: Link, weights: Weights, names: Mapping[str, str], *, head_dim: int) -> Iterator[Array]:
    """The tensor as llama.cpp has it, in float32; where experts are stacked in it, one after the other."""
    for name in link.disk:
        yield link.change.to_gguf(weights.tensor(names[name]).float().numpy(), head_dim)


def _put(writer: GGUFWriter, parts: Iterable[Array]) -> None:
    """Write a tensor that lies in parts. The package's own way has no name for what went wrong when it cannot write."""
    assert writer.fout is not None
    [file] = writer.fout
    writer.write_padding(file, file.tell())
    for part in parts:
        file.write(np.ascontiguousarray(part).data)
    writer.write_padding(file, file.tell())


def _check_room(folder: Path, size: int) -> None:
    """A full disk is better found before an hour of work than after it."""
    disk = os.statvfs(folder)
    if size > disk.f_bavail * disk.f_frsize:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


def _add(writer: GGUFWriter, key: str, value: Any) -> None:
    if isinstance(value, list):
        writer.add_array(key, value)
    elif isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    else:
        writer.add_string(key, value)
