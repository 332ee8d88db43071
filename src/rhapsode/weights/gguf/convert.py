"""A GGUF file becomes a Hugging Face model directory, block by block: never more than a few rows are in memory."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf.constants import GGMLQuantizationType
from torch import Tensor

from rhapsode.core.errors import RhapsodeError
from rhapsode.core.events import Events
from rhapsode.corpus.progress import Progress
from rhapsode.model.families.registry import spec_from_config
from rhapsode.model.parameters import disk_shapes
from rhapsode.model.spec import ModelSpec
from rhapsode.text.tokenizer import Tokenizer
from rhapsode.weights.gguf.architectures import Link, links, read_config
from rhapsode.weights.gguf.container import Gguf, read_gguf
from rhapsode.weights.gguf.facts import Facts
from rhapsode.weights.gguf.rows import BLOCK, check_types, read_rows
from rhapsode.weights.gguf.tokenizer import GgufTokenizer, read_tokenizer
from rhapsode.weights.header import Slot
from rhapsode.weights.json_file import write_object
from rhapsode.weights.shard_writer import shard_writer

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_OWN = {
    GGMLQuantizationType.F32: "float32",
    GGMLQuantizationType.F16: "float16",
    GGMLQuantizationType.BF16: "bfloat16",
}


def convert_gguf(path: Path, into: Path, *, dtype: str | None = None, events: Events) -> ModelSpec:
    """Write the model of a GGUF file as a whole Hugging Face directory: config, weights, tokenizer, end tokens.

    The file is understood whole before anything is written; the caller's manifest completes the directory.

    Args:
        path: the file.
        into: the directory; it is made if it is not there.
        dtype: of the weights; None is bfloat16 for a quantised file, and else the file's own.
        events: hears "progress" of the stage "convert", in bytes of the file.

    Raises:
        RhapsodeError: the file is damaged, or says what is not understood; nothing of it is guessed.
        OSError: what the system said, for example that the disk is full.
    """
    file = read_gguf(path)
    check_types(file)
    facts = facts_of(file)
    config = read_config(facts)
    dtype = _dtype(file, dtype)
    spec = _spec(config, file)
    found = _match(file, spec, facts)
    _check_vocabulary(file, spec)
    tokenizer = read_tokenizer(file)
    _tell_of_templates(file, events)
    spec = _spec(config | tokenizer.ids | {"dtype": dtype, "torch_dtype": dtype}, file)
    _write_tokenizer(tokenizer, into, context=spec.context)
    write_object(into / "config.json", spec.config)
    write_object(into / "generation_config.json", tokenizer.ids | {"eos_token_id": list(tokenizer.stops)})
    del tokenizer  # a large vocabulary takes more memory than a block of weights
    _write_weights(file, into, found, spec=spec, dtype=DTYPES[dtype], events=events)
    return spec


def facts_of(file: Gguf) -> Facts:
    """What the file says about its model."""
    shapes = {name: info.shape for name, info in file.tensors.items()}
    return Facts(file.metadata, shapes, vectors=lambda name: read_rows(file, name)[0], where=str(file.path))


def _spec(config: dict[str, Any], file: Gguf) -> ModelSpec:
    try:
        return spec_from_config(config)
    except RhapsodeError as error:
        raise RhapsodeError(f"{file.path}: as {error.message}", error.hint) from None


def _dtype(file: Gguf, wanted: str | None) -> str:
    if wanted is not None:
        if wanted not in DTYPES:
            raise RhapsodeError(f"weights cannot be written as {wanted!r}", f"choose one of {', '.join(DTYPES)}")
        return wanted
    sizes: Counter[str | None] = Counter()
    for info in file.tensors.values():
        if len(info.shape) > 1:
            sizes[_OWN.get(info.type)] += info.size
    [(most, _)] = sizes.most_common(1) or [(None, 0)]
    # a small matrix, a router for instance, is kept in full where the others are not
    return "bfloat16" if None in sizes or most is None else most


def _match(file: Gguf, spec: ModelSpec, facts: Facts) -> list[Link]:
    """Every tensor that the model needs, and nothing besides.

    Raises:
        RhapsodeError: one is missing, of another shape, or left over; names it.
    """
    found = list(links(spec))
    for link in found:
        if facts.shape(link.gguf) != link.shape:
            raise facts.wrong(f"tensor {link.gguf!r} is {list(facts.shape(link.gguf))}; it must be {list(link.shape)}")
    left = sorted(file.tensors.keys() - {link.gguf for link in found} - facts.vectors_read)
    if left:
        raise facts.wrong(
            f"tensors that are not understood for {facts.architecture}: {', '.join(left[:5])}",
            "a model is never loaded approximately",
        )
    return found


def _check_vocabulary(file: Gguf, spec: ModelSpec) -> None:
    count = file.metadata.length("tokenizer.ggml.tokens") or 0
    if count > spec.vocab_size:
        raise RhapsodeError(
            f"{file.path}: there are {count} tokens, and the embedding has {spec.vocab_size} rows",
            "the file is damaged; fetch it again",
        )


def _tell_of_templates(file: Gguf, events: Events) -> None:
    named = sorted(key for key in file.metadata if key.startswith("tokenizer.chat_template."))
    if named:
        events.emit("warning", message=f"{file.path}: chat templates for other uses are left out: {', '.join(named)}")


def _write_tokenizer(tokenizer: GgufTokenizer, into: Path, *, context: int) -> None:
    """Written only if it can be read."""
    source, names, template = tokenizer.files
    made = Tokenizer(source, names=names, chat_template=template)
    into.mkdir(parents=True, exist_ok=True)
    made.save(into, model_max_length=context)


def _write_weights(
    file: Gguf, into: Path, found: list[Link], *, spec: ModelSpec, dtype: torch.dtype, events: Events
) -> None:
    progress = Progress(events, stage="convert", total=sum(info.size for info in file.tensors.values()), unit="bytes")
    slots = [Slot(name, dtype, shape) for name, shape in disk_shapes(spec).items()]
    with shard_writer(into, slots) as out:
        for link in found:
            for number, name in enumerate(link.disk):
                row = 0
                for block in _blocks(file, link, number, head_dim=spec.head_dim, dtype=dtype):
                    out.write_corner(name, block, row=row)
                    row += len(block)
            progress.advance(file.tensors[link.gguf].size)
    progress.finish()


def _blocks(file: Gguf, link: Link, number: int, *, head_dim: int, dtype: torch.dtype) -> Iterator[Tensor]:
    """The rows of one tensor on disk, the `number`-th of those that are stacked in the file."""
    is_stacked, is_vector = len(link.disk) > 1, len(link.shape) == 1
    rows = 1 if is_vector else int(np.prod(link.shape[1 if is_stacked else 0 : -1]))
    unit = rows if link.change.is_whole else head_dim if link.change.is_by_head and not is_vector else 1
    step = max(1, BLOCK // (link.shape[-1] * unit)) * unit
    for start in range(0, rows, step):
        stop = min(start + step, rows)
        values = read_rows(file, link.gguf, start=number * rows + start, stop=number * rows + stop)
        changed = link.change.to_disk(values[0] if is_vector else values, head_dim)
        block = torch.from_numpy(np.require(changed, requirements=["C", "W"])).to(dtype)
        if dtype == torch.float16 and not torch.isfinite(block).all():
            raise RhapsodeError(f"{file.path}: {link.gguf} is too large for float16", "convert it to bfloat16")
        yield block
