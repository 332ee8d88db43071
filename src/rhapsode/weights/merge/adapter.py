"""An adapter merged into the weights of its base: a model like any other, which no reader needs PEFT for.

The sum is made in float32 and rounded once. A small change can be lost in that rounding, so the merged model is read
again from the disk and held against the adapter: how far their scores differ, beside how far the adapter moved them.
Nothing is merged into weights of fewer than sixteen bits; who wants those quantises the merged model.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rhapsode.core.errors import RhapsodeError
from rhapsode.core.manifest import digest, file_sha256, is_complete, writing
from rhapsode.kernels.storage import Storage
from rhapsode.model.adapted_linear import AdaptedLinear
from rhapsode.model.decoder import Decoder
from rhapsode.model.heads import put_head
from rhapsode.model.parameters import shapes
from rhapsode.model.spec import ModelSpec
from rhapsode.text.tokenizer import Tokenizer
from rhapsode.weights.adapter import TENSORS, load_adapter
from rhapsode.weights.directory import load_model, read_model, stop_tokens, write_model
from rhapsode.weights.foreign import copy_licence
from rhapsode.weights.frozen import load_frozen, read_frozen
from rhapsode.weights.probe import probe
from rhapsode.weights.shards import Weights

KIND = "model"
DTYPES = (torch.bfloat16, torch.float32)
TOLERANCE = 0.1
"""So much of what the adapter changes may be lost to rounding."""


class LostInRounding(RhapsodeError):
    """Too much of what an adapter changes is lost in numbers of this width."""


class Merged(NamedTuple):
    """A merged model.

    Attributes:
        difference: the largest, of its scores to those of the adapter on its base.
        change: the largest that the adapter makes to a score of its base.
    """

    path: Path
    difference: float
    change: float


def merge_adapter(
    base: Path,
    adapter: Path,
    out: Path,
    *,
    dtype: torch.dtype = torch.bfloat16,
    storage: Storage | None = None,
    spec: ModelSpec | None = None,
    tolerance: float = TOLERANCE,
    tokenizer_dir: Path | None = None,
    facts: Mapping[str, Any] = MappingProxyType({}),
    prove: Callable[[Path], None] = lambda _: None,
) -> Merged:
    """Write the model that computes in itself what the adapter computes upon `base`, completely or not at all.

    Args:
        dtype: of the weights, bfloat16 or wider.
        storage: how the base was kept while the adapter was trained; its rounding is what the adapter has learned to
            live with, so it becomes part of the model.
        spec: of the model that comes of it, where it has another head than its base.
        tolerance: the largest difference allowed, as a share of the largest change that the adapter makes.
        tokenizer_dir: whose tokenizer goes with it; None is the base's.
        facts: what the manifest tells besides.
        prove: adds evidence of its own to the directory, once all else lies there.

    Raises:
        RhapsodeError: the adapter does not fit the base or changes nothing.
        LostInRounding: too much of its change is.
        VerificationMismatch: a directory has changed since it was written.
    """
    if dtype not in DTYPES:
        raise RhapsodeError(
            f"an adapter is not merged into weights of the type {dtype}",
            "merge it into bf16 or f32, and quantise the merged model",
        )
    inputs = {
        "base": digest(base),
        "adapter": digest(adapter) if is_complete(adapter) else file_sha256(adapter / TENSORS),
    }
    model = _load(base) if storage is None else load_frozen(base, dtype=torch.float32, storage=storage)
    put_head(model, spec or model.spec)
    change = load_adapter(model, adapter, base=inputs["base"]).change
    scores, spec = probe(model), model.spec
    with writing(out, kind=KIND, inputs=inputs, facts=facts) as work:
        weights, stops, words = _merged(model, dtype), stop_tokens(base), tokenizer_dir or base
        stops = (*stops, Tokenizer.load(words).end_of_turn)
        write_model(work.path, spec=spec, weights=weights, tokenizer_dir=words, stops=sorted(set(stops)))
        copy_licence(base, work.path)
        del model, weights
        difference = float((probe(_read(work.path, dtype)) - scores).abs().max())
        _check(difference, change, tolerance=tolerance, where=adapter)
        work.facts |= {"merged": {"difference": difference, "change": change}}
        prove(work.path)
    return Merged(out, difference, change)


def _load(base: Path) -> Decoder:
    """The base, computing in float32; weights of sixteen bits stay so until they compute, which loses nothing."""
    with Weights(base) as weights:
        is_narrow = all(entry.dtype == torch.bfloat16 for entry in weights.tensors.values())
    return load_frozen(base, dtype=torch.float32, storage="bf16") if is_narrow else load_model(base)


def _read(merged: Path, dtype: torch.dtype) -> Decoder:
    """What was written, in the same way."""
    is_narrow = dtype == torch.bfloat16
    return read_frozen(merged, dtype=torch.float32, storage="bf16") if is_narrow else read_model(merged)


def _merged(model: Decoder, dtype: torch.dtype) -> Iterator[tuple[str, Tensor]]:
    """The parameters of the merged model under the names that they had, one after another."""
    for name in shapes(model.spec):
        owner, _, leaf = name.rpartition(".")
        module = model.get_submodule(owner)
        value = module.merged() if isinstance(module, AdaptedLinear) and leaf == "weight" else getattr(module, leaf)
        yield name, value.detach().to(dtype)


def _check(difference: float, change: float, *, tolerance: float, where: Path) -> None:
    if not difference <= tolerance * change:
        raise LostInRounding(
            f"{where} does not survive being merged: the scores of the merged model differ from its own by up to "
            f"{difference:.3g}, and it moves those of the base by {change:.3g}",
            f"merge it into wider numbers, or allow more than {tolerance:g} of its change",
        )
