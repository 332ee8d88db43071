"""Several models of one shape merged into one, a tensor at a time, from directories to a directory.

Tensors are met as they lie on disk, each module's on its own, so that what a method says of a tensor is what other
software says. There is never more in memory than one tensor of every model.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rhapsode.core.errors import RhapsodeError
from rhapsode.core.manifest import digest, writing
from rhapsode.model.parameters import disk_shapes
from rhapsode.model.spec import ModelSpec
from rhapsode.text.definition import read_definition
from rhapsode.text.files import read_files
from rhapsode.weights.directory import describe_model, read_spec, stop_tokens
from rhapsode.weights.foreign import copy_licence
from rhapsode.weights.header import Slot
from rhapsode.weights.layout import match
from rhapsode.weights.merge.methods import Method
from rhapsode.weights.proof import proven
from rhapsode.weights.shard_writer import MAX_SHARD_BYTES, shard_writer
from rhapsode.weights.shards import Weights

KIND = "model"
NOTHING: Mapping[str, Any] = MappingProxyType({})


class _Source(NamedTuple):
    """A model that is read: its tensors by the names that the family gives them."""

    weights: Weights
    names: dict[str, str]

    def tensor(self, name: str, shape: tuple[int, ...]) -> Tensor:
        value = torch.empty(shape, dtype=torch.float32)
        self.weights.read_into(self.names[name], value)
        return value


def merge_models(
    models: Sequence[Path],
    out: Path,
    *,
    method: Method,
    base: Path | None = None,
    dtype: torch.dtype = torch.bfloat16,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    facts: Mapping[str, Any] = NOTHING,
    prove: Callable[[Path], None] = lambda _: None,
) -> Path:
    """Write the model that `method` makes of `models`, completely or not at all.

    Tokenizer, template and where a generation ends are those of the first model.

    Args:
        base: what the models were trained from, where the method asks for it.
        facts: what its manifest tells besides how it was merged.
        prove: adds evidence of its own to the directory, once all else lies there.

    Raises:
        RhapsodeError: the models are not of one shape or one vocabulary, are too many or too few, or what comes of them
            is not finite.
        VerificationMismatch: a directory has changed since it was written.
    """
    _check_count(models, base, method)
    everything = [*models, *([base] if base else [])]
    spec = _common_spec(everything)
    _check_vocabularies(everything)
    inputs = {f"model {place}": digest(path) for place, path in enumerate(models, 1)}
    inputs |= {"base": digest(base)} if base else {}
    how = {"method": type(method).__name__.lower(), **vars(method)}
    with writing(out, kind=KIND, inputs=inputs, facts={**facts, "merged": how}) as work:
        slots = [Slot(name, dtype, shape) for name, shape in disk_shapes(spec).items()]
        with shard_writer(work.path, slots, max_shard_bytes=max_shard_bytes) as files:
            for name, value in _merged(everything, spec, method, has_base=base is not None):
                files.write(name, value.to(dtype))
        describe_model(work.path, spec=spec, dtype=dtype, tokenizer_dir=models[0], stops=stop_tokens(models[0]))
        for path in everything:
            copy_licence(path, work.path)
        prove(work.path)
    return out


def _merged(
    everything: Sequence[Path], spec: ModelSpec, method: Method, *, has_base: bool
) -> Iterator[tuple[str, Tensor]]:
    with contextlib.ExitStack() as stack:
        sources = []
        for path in everything:
            weights = stack.enter_context(proven(path))
            sources.append(_Source(weights, match(weights.tensors, spec, where=path).names))
        for name, shape in disk_shapes(spec).items():
            *tensors, last = (source.tensor(name, shape) for source in sources)
            value = method.merge(name, tensors if has_base else [*tensors, last], last if has_base else None)
            if not torch.isfinite(value).all():
                raise RhapsodeError(f"merged, {name} has numbers that are infinite or none", "choose other shares")
            yield name, value


def _check_count(models: Sequence[Path], base: Path | None, method: Method) -> None:
    name = type(method).__name__.lower()
    if method.num_models != len(models):
        raise RhapsodeError(
            f"{len(models)} models are named, and {name} is told of {method.num_models}",
            "name as many models as shares",
        )
    if method.needs_base != (base is not None):
        asked = "needs the base that the models were trained from" if method.needs_base else "has no use for a base"
        raise RhapsodeError(f"{name} {asked}", "name it" if method.needs_base else "leave it out")


def _common_spec(everything: Sequence[Path]) -> ModelSpec:
    """The first model's; all others compute the same, but for where they end and how far they reach.

    Raises:
        RhapsodeError: one does not.
    """
    specs = [read_spec(path) for path in everything]
    for path, spec in zip(everything, specs, strict=True):
        alike = dataclasses.replace(spec, eos=specs[0].eos, context=specs[0].context)
        if alike != specs[0] or disk_shapes(spec) != disk_shapes(specs[0]):
            raise RhapsodeError(
                f"{path} is not of the shape of {everything[0]}: their config.json differ in "
                f"{', '.join(_differences(alike, specs[0])) or 'the size of a tensor'}",
                "merge models that were trained from the same base",
            )
    return specs[0]


def _differences(one: ModelSpec, other: ModelSpec) -> list[str]:
    fields = [field.name for field in dataclasses.fields(ModelSpec) if field.compare]
    return [name for name in fields if getattr(one, name) != getattr(other, name)]


def _check_vocabularies(everything: Sequence[Path]) -> None:
    """Raises RhapsodeError: a token has one id in one model and another in another, whose rows then mean two things."""
    first = _vocabulary(everything[0])
    for path in everything[1:]:
        if (found := _vocabulary(path)) != first:
            token = min(found.items() ^ first.items(), key=lambda pair: pair[1])[0]
            raise RhapsodeError(
                f"{path} has another vocabulary than {everything[0]}: the token {token[:40]!r} differs",
                "merge models with one tokenizer",
            )


def _vocabulary(directory: Path) -> dict[str, int]:
    definition = read_definition(read_files(directory).source)
    return {**definition.words, **{token.content: token.id for token in definition.added}}
