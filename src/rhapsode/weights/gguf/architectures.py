"""From what a GGUF file says to a config.json, and back. What cannot be said in the other's words is refused."""

import dataclasses
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from rhapsode.core.errors import RhapsodeError
from rhapsode.model.families.registry import FAMILIES, spec_from_config
from rhapsode.model.parameters import disk_shapes
from rhapsode.model.rope import Rope
from rhapsode.model.spec import LayerSpec, ModelSpec
from rhapsode.weights.gguf.changes import AS_IT_IS, Change
from rhapsode.weights.gguf.facts import Facts, Vector
from rhapsode.weights.gguf.table import ARCHITECTURES, Architecture

TOKENS = ("eos", "family")  # what a vocabulary says, and a name of which llama.cpp has fewer


class Link(NamedTuple):
    """A tensor of a GGUF file and those of a Hugging Face directory that hold the same numbers.

    Attributes:
        gguf: its name in the file.
        disk: its names in the directory: one, or one for each expert in turn, which lie stacked in the file.
        shape: what it has in the file, rows first.
        change: how the numbers differ.
    """

    gguf: str
    disk: tuple[str, ...]
    shape: tuple[int, ...]
    change: Change


class Written(NamedTuple):
    """What a file says about its model: keys, the architecture's among them, and tensors that stand for settings."""

    metadata: dict[str, Any]
    vectors: dict[str, Vector]


def read_config(facts: Facts) -> dict[str, Any]:
    """The config.json of a file, without what its vocabulary says.

    Raises:
        RhapsodeError: the architecture is unknown, a key is missing or impossible, or one is left over.
    """
    rows = [row for row in ARCHITECTURES if row.name == facts.architecture]
    row = next((row for row in rows if row.when(facts)), None)
    if row is None:
        raise facts.wrong(
            f"its architecture {facts.architecture[:40]!r} is not one that Rhapsode knows",
            f"known: {', '.join(dict.fromkeys(row.name for row in ARCHITECTURES))}",
        )
    config: dict[str, Any] = {"architectures": [FAMILIES[row.model_type].architecture], "model_type": row.model_type}
    for setting in (*row.settings, row.rotation):
        config |= setting.read(facts)
    if odd := facts.not_understood():
        raise facts.wrong(
            f"keys that are not understood for {row.name}: {', '.join(odd)}", "a model is never loaded approximately"
        )
    return config


def write_settings(spec: ModelSpec) -> Written:
    """What a GGUF file says about `spec`, in llama.cpp's words.

    Raises:
        RhapsodeError: llama.cpp has no words for it, so that another model would be read from the file; says which
            of its properties would be lost.
    """
    row, tensors = architecture_of(spec), {link.gguf: link.shape for link in links(spec)}
    keys: dict[str, Any] = {}
    for setting in (*row.settings, row.rotation):
        keys |= setting.write(spec)
    metadata = {"general.architecture": row.name} | {f"{row.name}.{key}": value for key, value in keys.items()}
    written = Written(metadata, row.rotation.vectors(spec))
    _check_sayable(spec, written, tensors)
    return written


def architecture_of(spec: ModelSpec) -> Architecture:
    """The row of the table by which a decoder is written.

    Raises:
        RhapsodeError: llama.cpp has none for it.
    """
    plain = {"mistral": "llama"}  # llama.cpp tells them apart by nothing
    family = plain.get(spec.family, spec.family)
    row = next((row for row in ARCHITECTURES if row.model_type == family), None)
    if row is None:
        raise RhapsodeError(f"a GGUF file cannot hold a model of the family {spec.family}", "export safetensors")
    return row


def links(spec: ModelSpec) -> Iterator[Link]:
    """Every tensor of a decoder, in the order of the directory's names; those of the settings are not among them."""
    row, prefix = architecture_of(spec), FAMILIES[spec.family].names.layer
    shapes = disk_shapes(spec)
    for name, shape in shapes.items():
        module, _, kind = name.rpartition(".")
        index, inner = _split(module, prefix)
        if index is None:
            yield _link(f"{row.outside[module]}.{kind}", (name,), shape, row)
            continue
        inner, expert = _numbered(inner)
        if expert:
            continue  # the first stands for all
        count = 1
        if expert == 0:
            experts = spec.layers[index].experts
            assert experts is not None
            count = experts.count
        stem = prefix.format(index)
        names = tuple(f"{stem}{inner.format(number)}.{kind}" for number in range(count))
        if inner not in row.block:
            raise RhapsodeError(f"llama.cpp has no tensor for {name} in its {row.name}", "export safetensors")
        yield _link(f"blk.{index}.{row.block[inner]}.{kind}", names, shape, row, is_stacked=expert == 0)


def _link(
    gguf: str, names: tuple[str, ...], shape: tuple[int, ...], row: Architecture, *, is_stacked: bool = False
) -> Link:
    module = gguf.split(".")[-2]
    change = row.changes.get(module, AS_IT_IS)
    shape = shape[::-1] if change.is_whole else shape
    return Link(gguf, names, (len(names), *shape) if is_stacked else shape, change)


def _split(module: str, prefix: str) -> tuple[int | None, str]:
    """The number of the block and what stands after it; None outside of all blocks."""
    head = prefix.partition("{}")[0]
    if not module.startswith(head):
        return None, module
    number, _, inner = module.removeprefix(head).partition(".")
    return int(number), inner


def _numbered(inner: str) -> tuple[str, int | None]:
    """A module with {} in place of the expert's number, and that number."""
    before, word, after = inner.partition("experts.")
    if not word:
        return inner, None
    number, _, rest = after.partition(".")
    return f"{before}{word}{{}}.{rest}", int(number)


def _check_sayable(spec: ModelSpec, written: Written, tensors: Mapping[str, tuple[int, ...]]) -> None:
    """Read back what would be written."""
    shapes = {**tensors, **{name: vector.shape for name, vector in written.vectors.items()}}
    facts = Facts(written.metadata, shapes, vectors=written.vectors.__getitem__, where="the GGUF file")
    again = spec_from_config(read_config(facts))
    if lost := list(_losses(spec, again)):
        raise RhapsodeError(
            f"llama.cpp has no words for this model: {'; '.join(lost)}", "export safetensors, which hold it as it is"
        )


def _losses(spec: ModelSpec, again: ModelSpec) -> Iterator[str]:
    """Each property that would be another; of the layers, the first in which it would."""
    for field in dataclasses.fields(ModelSpec):
        if field.compare and field.name not in {*TOKENS, "layers"}:
            ours, theirs = (getattr(one, field.name) for one in (spec, again))
            if not _is_close(ours, theirs):
                yield f"{field.name} {ours} would be {theirs}"
    pairs = [[_seen(one.layers[i], context=one.context) for one in (spec, again)] for i in range(len(spec.layers))]
    for field in dataclasses.fields(LayerSpec):
        for index, pair in enumerate(pairs):
            ours, theirs = (getattr(layer, field.name) for layer in pair)
            if not _is_close(ours, theirs):
                yield f"{field.name} of layer {index} {ours} would be {theirs}"
                break


def _seen(layer: LayerSpec, *, context: int) -> LayerSpec:
    """A window as long as the context hides nothing."""
    is_all = layer.window is not None and layer.window >= context
    return dataclasses.replace(layer, window=None) if is_all else layer


def _is_close(a: Any, b: Any) -> bool:
    """Equal, but for what a number loses on its way through 32 bits; positions are equal if they turn alike."""
    if isinstance(a, Rope) and isinstance(b, Rope):
        return a.dims == b.dims and np.allclose(
            [a.scale, *a.frequencies()], [b.scale, *b.frequencies()], rtol=1e-5, atol=0
        )
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=1e-6)
    return bool(a == b)
