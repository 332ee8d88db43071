"""The tensors of a model directory against those that its config.json calls for.

Names on disk are those of `model/parameters.py`. Publishers leave out or add a little that changes nothing; what is
allowed is written down here, and anything else is refused by name.
"""

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from rhapsode.core.errors import RhapsodeError
from rhapsode.model.families.registry import FAMILIES
from rhapsode.model.parameters import disk_shapes, parts
from rhapsode.model.spec import ModelSpec
from rhapsode.weights.header import SPELLED, Entry

FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
HARMLESS = (
    (re.compile(r"(.+\.)?rotary_emb\.inv_freq"), 1),  # follows from config.json
    (re.compile(r"(transformer\.)?h\.\d+\.attn\.bias"), 4),  # GPT-2's causal mask
    (re.compile(r"(transformer\.)?h\.\d+\.attn\.masked_bias"), 0),
)
"""Names that no decoder needs, and how many dimensions such a tensor has."""


class Layout(NamedTuple):
    """Where things lie in one directory.

    Attributes:
        names: the family's name of each tensor -> its name in the files.
        head: the name of a vocabulary projection that lies there although the embedding, its equal, stands for it.
    """

    names: dict[str, str]
    head: str | None


def pieces(name: str, value: Tensor, spec: ModelSpec) -> Iterator[tuple[str, Tensor]]:
    """The tensors on disk that the parameter `name` is stacked from: views of `value`, each in its shape on disk."""
    found = parts(name, spec)
    flat = value.view(-1, value.shape[-1]) if value.ndim > 1 else value
    for part, rows in zip(found, flat.split([part.rows for part in found]), strict=True):
        yield part.name, rows.T if part.is_transposed else rows


def embedding_name(spec: ModelSpec) -> str:
    """The embedding's name on disk."""
    return parts("embedding.weight", spec)[0].name


def match(found: Mapping[str, Entry], spec: ModelSpec, *, where: Path) -> Layout:
    """Find every tensor that the model needs, with the shape it needs, and nothing besides.

    Raises:
        RhapsodeError: one is missing, is of another shape or not of floating point, or is left over; names it.
    """
    _check_count(len(found), spec, where=where)
    prefix = FAMILIES[spec.family].names.layer.partition(".")[0] + "."
    names: dict[str, str] = {}
    for name, shape in disk_shapes(spec).items():
        # a file of the model without its head, as some publishers write it, has the same names without the first word
        there = name if name in found else name.removeprefix(prefix)
        if there not in found:
            left = _left_over(found, names.values())
            hint = f"it holds {left[0]}, which config.json does not explain" if left else "the model is not complete"
            raise RhapsodeError(f"{where} lacks {name}", hint)
        _check_entry(there, found[there], shape, where=where)
        names[name] = there
    head = _head_name(spec) if spec.tied else None
    left = [name for name in _left_over(found, names.values()) if name != head]
    if left:
        raise RhapsodeError(f"{where} holds tensors that config.json does not explain: {', '.join(left[:5])}")
    if head is None or head not in found:
        return Layout(names, None)
    _check_entry(head, found[head], (spec.vocab_size, spec.width), where=where)
    return Layout(names, head)


def check_head(blocks: Iterable[Tensor], embedding: Tensor, *, name: str, where: Path) -> None:
    """Compare a projection, given a few rows at a time, with the embedding that config.json says stands for it.

    Raises:
        RhapsodeError: they differ.
    """
    at = 0
    for block in blocks:
        if not torch.equal(block.to(embedding.dtype), embedding[at : at + len(block)]):
            raise RhapsodeError(
                f"{where}: {name} is not the embedding, although config.json ties them",
                "set tie_word_embeddings to false in a copy of its config.json, if that is how the model was trained",
            )
        at += len(block)


def _check_count(count: int, spec: ModelSpec, *, where: Path) -> None:
    """Before names are made: a config.json may speak of any number of layers and experts."""
    least = len(spec.layers) + sum(layer.experts.count for layer in spec.layers if layer.experts)
    if least > count:
        raise RhapsodeError(
            f"{where}: config.json has {len(spec.layers):,} layers, which is more than {count:,} tensors can be",
            "the model is not complete",
        )


def _check_entry(name: str, entry: Entry, shape: tuple[int, ...], *, where: Path) -> None:
    if entry.shape != shape:
        raise RhapsodeError(f"{where}: {name} is {list(entry.shape)}, config.json says {list(shape)}")
    if entry.dtype not in FLOATS:
        raise RhapsodeError(
            f"{where}: {name} is of the type {SPELLED[entry.dtype]}, and no number of floating point",
            "quantised weights are read from GGUF files alone; take those, or the publisher's own weights",
        )


def _left_over(found: Mapping[str, Entry], used: Iterable[str]) -> list[str]:
    left = found.keys() - set(used)
    return sorted(name for name in left if not _is_harmless(name, len(found[name].shape)))


def _is_harmless(name: str, dimensions: int) -> bool:
    return any(pattern.fullmatch(name) and dimensions == size for pattern, size in HARMLESS)


def _head_name(spec: ModelSpec) -> str:
    return parts("head.weight", dataclasses.replace(spec, tied=False))[0].name
