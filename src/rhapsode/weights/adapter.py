"""Adapters on disk: a PEFT directory, which transformers, vLLM and others read, and which we read from them.

`adapter_model.safetensors` names every tensor base_model.model.MODULE.lora_A.weight and so on. An adapter that fits no
matrix, or only some, loads silently elsewhere and does nothing; here every tensor has its place and every place its
tensor, the base is the one that it was trained on, and what it computes differs from what the base computes.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from rhapsode.core.errors import RhapsodeError
from rhapsode.core.manifest import is_complete, verify
from rhapsode.kernels.storage import Storage
from rhapsode.model.adapter import adapt, freeze, targets, token_rows, whole
from rhapsode.model.adapter_spec import AdapterSpec
from rhapsode.model.decoder import Decoder
from rhapsode.model.parameters import parts
from rhapsode.model.spec import ModelSpec
from rhapsode.weights.adapter_config import adapter_config, read_adapter_config
from rhapsode.weights.header import Entry
from rhapsode.weights.json_file import read_object, write_object
from rhapsode.weights.layout import FLOATS
from rhapsode.weights.names import ADAPTER
from rhapsode.weights.probe import probe
from rhapsode.weights.safetensors import TensorFile, write_tensors
from rhapsode.weights.strangers import refuse_pickle

TENSORS = "adapter_model.safetensors"
PICKLE = "adapter_model.bin"
BASE = "rhapsode.base"
"""A word beside the tensors: the digest of the model directory that the adapter was trained on."""
SPELLED = {"A": "lora_A.weight", "B": "lora_B.weight", "magnitude": "lora_magnitude_vector"}
ROWS = re.compile(r"base_model\.model\.(.+)\.token_adapter\.trainable_tokens_delta")
"""Rows of new tokens; PEFT calls them a difference, but they are the rows themselves."""
NAME = re.compile(r"base_model\.model\.(.+)\.(?:lora_A\.weight|lora_B\.weight|lora_magnitude_vector)")


class Adapter(NamedTuple):
    """An adapter that was read.

    Attributes:
        weights: by the names of an adapted decoder's parameters, in the type of the file.
        base: the digest of the model that it was trained on; None where its maker did not say.
    """

    spec: AdapterSpec
    weights: dict[str, Tensor]
    base: str | None


class Loaded(NamedTuple):
    """An adapter upon its base, and the largest difference that it makes to a score of the probe."""

    spec: AdapterSpec
    change: float


class OnDisk(NamedTuple):
    """A tensor's name on disk, and its shape."""

    key: str
    shape: tuple[int, ...]


def slots(spec: ModelSpec, adapter: AdapterSpec) -> dict[str, OnDisk]:
    """By the name of the parameter, where everything that the adapter learns lies on disk."""
    low_rank = {
        target.parameter(tensor): OnDisk(f"base_model.model.{target.module}.{SPELLED[tensor]}", shape)
        for target in targets(spec, adapter)
        for tensor, shape in target.tensors(adapter).items()
    } | {
        name: OnDisk(f"base_model.model.{part.name}", shape)
        for name, shape in whole(spec).items()
        for part in parts(name, spec)
    }
    shape = (len(adapter.tokens), spec.width)
    return low_rank | {
        name: OnDisk(f"base_model.model.{module}.token_adapter.trainable_tokens_delta", shape)
        for name, module in token_rows(spec, adapter).items()
    }


def write_adapter(
    directory: Path,
    *,
    spec: ModelSpec,
    adapter: AdapterSpec,
    weights: Iterable[tuple[str, Tensor]],
    base: str,
    base_name: str,
) -> None:
    """Write an adapter into an existing directory; the caller's manifest completes it.

    Args:
        weights: the names and tensors of what was learnt, in any order.
        base: the digest of the model directory that it was trained on.
        base_name: where readers look for the base model: a directory, or a name on a hub.

    Raises:
        OSError: what the system said, for example that the disk is full.
    """
    places, given = slots(spec, adapter), dict(weights)
    assert places.keys() == given.keys(), "an adapter is written whole"
    tensors = {places[name].key: value.detach() for name, value in given.items()}
    write_tensors(directory / TENSORS, tensors, metadata={BASE: base})
    write_object(directory / ADAPTER, adapter_config(adapter, spec=spec, base_name=base_name))


def read_adapter(directory: Path, *, spec: ModelSpec) -> Adapter:
    """The adapter in a PEFT directory, which fits a model of this spec; where it has a manifest, as that says.

    Raises:
        RhapsodeError: the config asks for what is not built, or a tensor is missing, not explained, of another shape or
            not finite; names it.
        VerificationMismatch: a file has changed since it was written.
    """
    if not (directory / TENSORS).exists() and (directory / PICKLE).exists():
        raise refuse_pickle(directory, PICKLE)
    if is_complete(directory):
        verify(directory)
    where = directory / ADAPTER
    config = read_object(where)
    with TensorFile(directory / TENSORS) as file:
        heads = {f"base_model.model.{part.name}" for name in whole(spec) for part in parts(name, spec)}
        low_rank = [name for name in file.tensors if name not in heads and not ROWS.fullmatch(name)]
        modules = {_module(name, where=file.path) for name in low_rank}
        adapter = read_adapter_config(config, spec=spec, modules=modules, where=str(where))
        places = slots(spec, adapter)
        _check(places, file.tensors, where=file.path)
        weights = {name: _finite(file.tensor(slot.key), slot.key, file.path) for name, slot in places.items()}
        return Adapter(adapter, weights, file.metadata.get(BASE))


def load_adapter(model: Decoder, directory: Path, *, base: str, storage: Storage | None = None) -> Loaded:
    """Put the adapter in `directory` upon a model that has none.

    Args:
        base: the digest of the directory that the model was loaded from.
        storage: how the matrices of the blocks are kept from now on; None is as they are.

    Raises:
        RhapsodeError: as `read_adapter`; or the adapter was trained on another base, or changes nothing. The model is
            then of no more use.
    """
    found = read_adapter(directory, spec=model.spec)
    check_base(found, base, where=directory)
    heads = whole(model.spec)
    changing = [v for name, v in found.weights.items() if name.endswith((".B", ".rows")) or name in heads]
    if found.spec.kind == "lora" and not any(value.any() for value in changing):
        raise _idle(directory, "every lora_B is zero")
    freeze(model, storage=storage)
    before = probe(model)
    put(model, found)
    change = float((probe(model) - before).abs().max())
    if not change > 0:
        raise _idle(directory, "its scores are those of the base, number for number")
    return Loaded(found.spec, change)


@torch.no_grad()
def put(model: Decoder, adapter: Adapter) -> None:
    """Adapt a model that has no adapter, with these weights."""
    adapt(model, adapter.spec, seed=0)
    parameters = dict(model.named_parameters())
    for name, value in adapter.weights.items():
        parameters[name].copy_(value)


def check_base(adapter: Adapter, base: str, *, where: Path) -> None:
    """Raises RhapsodeError: the adapter was trained on another model than that of the digest `base`."""
    if adapter.base not in (None, base):
        raise RhapsodeError(
            f"{where} was trained on the model {str(adapter.base)[:12]}, and this one is {base[:12]}",
            "name the model directory that it was trained on",
        )


def _module(name: str, *, where: Path) -> str:
    match = NAME.fullmatch(name)
    if match is None:
        raise RhapsodeError(f"{where} holds {name}, which is no part of a LoRA or DoRA adapter", _AGAIN)
    return match[1]


def _check(places: Mapping[str, OnDisk], found: Mapping[str, Entry], *, where: Path) -> None:
    wanted = {slot.key: slot.shape for slot in places.values()}
    if missing := sorted(wanted.keys() - found.keys()):
        raise RhapsodeError(f"{where} lacks {_some(missing)}, which {ADAPTER} asks for", _AGAIN)
    if left := sorted(found.keys() - wanted.keys()):
        raise RhapsodeError(f"{where} holds {_some(left)}, for which {ADAPTER} and the model have no place", _AGAIN)
    for key, shape in wanted.items():
        if found[key].shape != shape:
            raise RhapsodeError(
                f"{where}: {key} is {list(found[key].shape)}, the model and the rank ask for {list(shape)}",
                "name the model that the adapter was trained on",
            )
        if found[key].dtype not in FLOATS:
            raise RhapsodeError(f"{where}: {key} is of no type of floating point", _AGAIN)


def _finite(value: Tensor, key: str, where: Path) -> Tensor:
    if not torch.isfinite(value).all():
        raise RhapsodeError(f"{where}: {key} has numbers that are infinite or none", _AGAIN)
    return value


def _idle(directory: Path, why: str) -> RhapsodeError:
    return RhapsodeError(f"{directory} holds an adapter that changes nothing: {why}", "train it, or take another")


def _some(names: list[str]) -> str:
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")


_AGAIN = "the adapter is not complete, or made for another model; get its files again"
