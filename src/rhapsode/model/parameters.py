"""The parameters of a decoder and the tensors on disk that they are stacked from."""

import dataclasses
import functools
import math
from typing import NamedTuple

import torch

from rhapsode.model.decoder import Decoder
from rhapsode.model.families.names import Names
from rhapsode.model.families.registry import FAMILIES
from rhapsode.model.spec import ModelSpec

SCORES = ("score",)
"""The matrix of a head for labels, whatever the family calls its projection to the vocabulary."""


class Part(NamedTuple):
    """A tensor on disk: `rows` rows of a parameter, which lie transposed if `is_transposed`."""

    name: str
    rows: int
    is_transposed: bool = False


@functools.lru_cache(maxsize=8)
def shapes(spec: ModelSpec) -> dict[str, tuple[int, ...]]:
    """Every parameter of the decoder, a tied head left out, with its shape."""
    kinds = list(dict.fromkeys(spec.layers))  # layers that are alike have the same parameters: one of each is enough
    with torch.device("meta"):
        small = Decoder(dataclasses.replace(spec, layers=tuple(kinds)))
    found = {name: tuple(parameter.shape) for name, parameter in small.named_parameters()}
    of_kind = [_within(found, f"layers.{index}.") for index in range(len(kinds))]
    layers = {
        f"layers.{index}.{name}": shape
        for index, layer in enumerate(spec.layers)
        for name, shape in of_kind[kinds.index(layer)].items()
    }
    before, after = (
        {name: shape for name, shape in found.items() if name.split(".")[0] in modules}
        for modules in (("embedding", "positions"), ("norm", "head"))
    )
    return before | layers | after


def parts(name: str, spec: ModelSpec) -> tuple[Part, ...]:
    """How the parameter `name` lies on disk: tensors that are stacked one below another, [E,2F,D] as [E*2F,D]."""
    return _parts(name, shapes(spec)[name], spec)


def _within(found: dict[str, tuple[int, ...]], prefix: str) -> dict[str, tuple[int, ...]]:
    return {name.removeprefix(prefix): shape for name, shape in found.items() if name.startswith(prefix)}


def _parts(name: str, shape: tuple[int, ...], spec: ModelSpec) -> tuple[Part, ...]:
    names = FAMILIES[spec.family].names
    rows = shape[0] if len(shape) == 1 else math.prod(shape[:-1])
    module, _, kind = name.rpartition(".")
    prefix, found, experts = _modules(names, module, spec)
    found = tuple(part.format(expert=expert) for expert in range(experts) for part in found)
    stacked = _stacked_rows(module, shape, spec)
    sizes = stacked if len(found) == len(stacked) else (rows // len(found),) * len(found)
    return tuple(
        Part(f"{prefix}{part}.{kind}", size, len(shape) > 1 and part in names.transposed)
        for part, size in zip(found, sizes, strict=True)
    )


def stacked_rows(name: str, spec: ModelSpec) -> tuple[int, ...]:
    """The heights of the matrices or vectors that the decoder stacks in one parameter, wherever they lie on disk."""
    return _stacked_rows(name.rpartition(".")[0], shapes(spec)[name], spec)


def _stacked_rows(module: str, shape: tuple[int, ...], spec: ModelSpec) -> tuple[int, ...]:
    if module.endswith("attention.qkv"):
        return tuple(heads * spec.head_dim for heads in (spec.heads, spec.kv_heads, spec.kv_heads))
    experts, height = shape[:2] if len(shape) > 2 else (1, shape[0])
    return (height // 2,) * 2 * experts if module.endswith("gate_up") else (height,) * experts


def disk_shapes(spec: ModelSpec) -> dict[str, tuple[int, ...]]:
    """Every tensor on disk with its shape; a tied head is not there."""
    found: dict[str, tuple[int, ...]] = {}
    for name, shape in shapes(spec).items():
        for part in _parts(name, shape, spec):
            whole = (part.rows, *shape[-1:]) if len(shape) > 1 else (part.rows,)
            found[part.name] = whole[::-1] if part.is_transposed else whole
    return found


def _modules(names: Names, module: str, spec: ModelSpec) -> tuple[str, tuple[str, ...], int]:
    """What the names begin with, the modules on disk, and how often they repeat."""
    if not module.startswith("layers."):
        return "", SCORES if module == "head" and spec.head is not None else names.outside[module], 1
    _, index, inner = module.split(".", 2)
    experts = spec.layers[int(index)].experts
    repeated = experts.count if experts and inner.startswith("ffn.experts") else 1
    return names.layer.format(index), names.inside[inner], repeated
