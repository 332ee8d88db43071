"""Adapters of the one decoder: which of its matrices they hit, and the change of a model into an adapted one.

Targets are named as Hugging Face names modules, and the tables of `model/parameters.py` say which rows of the decoder's
stacked matrices those are. An adapted model has the parameters that it had, all frozen, and those of its adapters.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

from rhapsode.core.errors import RhapsodeError
from rhapsode.kernels.storage import Storage
from rhapsode.model.adapted_linear import AdaptedLinear, Place
from rhapsode.model.adapter_spec import ALL_LINEAR, AdapterSpec
from rhapsode.model.decoder import Decoder
from rhapsode.model.linear import Linear
from rhapsode.model.parameters import parts, shapes
from rhapsode.model.spec import ModelSpec
from rhapsode.model.trained_rows import TiedHead, TrainedEmbedding, TrainedRows

MATRICES = ("attention.qkv", "attention.out", "ffn.gate_up", "ffn.up", "ffn.down")
"""The modules of a block whose matrices an adapter can hit; experts and their router are not among them."""
OUT_OF_REACH = ("ffn.experts_gate_up", "ffn.experts_down", "ffn.router")


class Target(NamedTuple):
    """A module on disk that an adapter hits.

    Attributes:
        module: its whole name, such as model.layers.0.self_attn.q_proj.
        owner: the decoder's module in whose matrix it lies, at `place`.
        columns: of that matrix.
        is_transposed: its matrix lies the other way round on disk.
    """

    module: str
    owner: str
    place: Place
    columns: int
    is_transposed: bool

    @property
    def name(self) -> str:
        """The last word of its name."""
        return self.module.rpartition(".")[2]

    def tensors(self, adapter: AdapterSpec) -> dict[str, tuple[int, ...]]:
        """What is learnt of it: A, B and under DoRA magnitude, with their shapes."""
        found: dict[str, tuple[int, ...]] = {"A": (adapter.rank, self.columns), "B": (self.place.rows, adapter.rank)}
        if adapter.kind == "dora":
            found["magnitude"] = (self.place.rows,)
        return found

    def parameter(self, tensor: str) -> str:
        """The name of one of its tensors among the parameters of the decoder."""
        return f"{self.owner}.adapters.{self.name}.{tensor}"


def targets(spec: ModelSpec, adapter: AdapterSpec) -> list[Target]:
    """Every module that the adapter hits, block by block.

    Raises:
        RhapsodeError: a target hits nothing, or what no adapter reaches; or there is no such block.
    """
    layers = range(len(spec.layers))
    if unknown := sorted(set(adapter.layers or ()) - set(layers)):
        raise RhapsodeError(f"the adapter's layers name {unknown[0]}, the model has 0 to {layers[-1]}", "correct them")
    matrices = [(layer, target) for layer in layers for target in _of_block(spec, layer, MATRICES)]
    _check_names(spec, adapter, [target.module for _, target in matrices])
    found = [target for layer, target in matrices if adapter.hits(target.module, layer=layer)]
    if not found:
        raise RhapsodeError("the adapter hits no module of the model", "name blocks and modules that there are")
    return found


def token_rows(spec: ModelSpec, adapter: AdapterSpec) -> dict[str, str]:
    """The parameters that hold the rows of the adapter's tokens, each with the module on disk that has them.

    Raises:
        RhapsodeError: the model has no such token.
    """
    if beyond := [token for token in adapter.tokens if not 0 <= token < spec.vocab_size]:
        raise RhapsodeError(
            f"the adapter has a row for the token {beyond[0]:,}, the model {spec.vocab_size:,} rows, from 0",
            "name the model that the adapter was trained on",
        )
    owners = ("embedding",) if spec.tied or spec.head is not None else ("embedding", "head")
    names = {f"{owner}.rows": parts(f"{owner}.weight", spec)[0].name.removesuffix(".weight") for owner in owners}
    return names if adapter.tokens else {}


def adapt(model: Decoder, adapter: AdapterSpec, *, seed: int, storage: Storage | None = None) -> None:
    """Freeze the model in place and begin to learn beside the matrices that the adapter hits.

    What it computes is what it computed before, up to the rounding of `storage`.

    Args:
        seed: of the first A; equal seeds give equal bytes.
        storage: how the matrices of the blocks are kept; None is as they are.

    Raises:
        RhapsodeError: as `targets`; nothing has changed.
    """
    found, has_rows = targets(model.spec, adapter), bool(token_rows(model.spec, adapter))
    freeze(model, storage=storage)
    random, dtype = torch.Generator().manual_seed(seed), model.embedding.weight.dtype
    for target in found:
        module = model.get_submodule(target.owner)
        if isinstance(module, Linear):
            module = AdaptedLinear(module)
            model.set_submodule(target.owner, module)
        assert isinstance(module, AdaptedLinear)
        assert target.name not in module.adapters, "a model is adapted once"
        module.scale = adapter.scale
        module.add(target.name, target.place, rank=adapter.rank, kind=adapter.kind, dtype=dtype, random=random)
    if has_rows:
        _train_rows(model, adapter.tokens)
    for name in whole(model.spec):
        model.get_parameter(name).requires_grad_()


def whole(spec: ModelSpec) -> dict[str, tuple[int, ...]]:
    """The decoder's own parameters that are learned whole beside an adapter, with their shapes: a head for labels."""
    name = "head.weight"
    return {name: shapes(spec)[name]} if spec.head is not None and spec.head.labels else {}


def _train_rows(model: Decoder, tokens: Sequence[int]) -> None:
    """Those of the embedding, and of the projection to the vocabulary where the model writes."""
    trained = TrainedEmbedding(model.embedding.weight, tokens)
    model.set_submodule("embedding", trained)
    if model.spec.head is None:
        head = model.head.weight
        model.set_submodule("head", TiedHead(trained) if model.spec.tied else TrainedRows(head, tokens))


def freeze(model: Decoder, *, storage: Storage | None = None) -> None:
    """Let nothing of the model be trained; with a `storage`, keep the matrices of the blocks in it, one by one."""
    model.requires_grad_(requires_grad=False)
    if storage is None:
        return
    for owner in owners(model.spec):
        module = model.get_submodule(owner)
        if isinstance(module, Linear):
            model.set_submodule(owner, AdaptedLinear(module, storage=storage))


@contextlib.contextmanager
def without_adapters(model: Decoder) -> Iterator[None]:
    """Within this context the model computes what its base computes."""
    adapted = [module for module in model.modules() if isinstance(module, AdaptedLinear | TrainedRows)]
    for module in adapted:
        module.is_on = False
    try:
        yield
    finally:
        for module in adapted:
            module.is_on = True


def owners(spec: ModelSpec) -> list[str]:
    """The decoder's modules that hold a matrix which an adapter can hit."""
    return [
        f"layers.{layer}.{inner}"
        for layer in range(len(spec.layers))
        for inner in MATRICES
        if f"layers.{layer}.{inner}.weight" in shapes(spec)
    ]


def _of_block(spec: ModelSpec, layer: int, inside: tuple[str, ...]) -> list[Target]:
    found = []
    for inner in inside:
        owner = f"layers.{layer}.{inner}"
        if (shape := shapes(spec).get(f"{owner}.weight")) is None:
            continue
        at = 0
        for part in parts(f"{owner}.weight", spec):
            module = part.name.removesuffix(".weight")
            found.append(Target(module, owner, Place(at, part.rows), shape[-1], part.is_transposed))
            at += part.rows
    return found


def _check_names(spec: ModelSpec, adapter: AdapterSpec, modules: list[str]) -> None:
    """Every target hits something, and experts are never taken for adapted."""
    known = sorted({module.rpartition(".")[2] for module in modules})
    beyond = [t.module for layer in range(len(spec.layers)) for t in _of_block(spec, layer, OUT_OF_REACH)]
    for name in adapter.targets:
        hit = [module for module in beyond if name in (ALL_LINEAR, module) or module.endswith(f".{name}")]
        if hit:
            raise RhapsodeError(
                f"the adapter's target {name} hits {hit[0]}, and adapters do not reach the experts of a mixture",
                f"name modules: {', '.join(known)}",
            )
        if name != ALL_LINEAR and not any(name == m or m.endswith(f".{name}") for m in modules):
            raise RhapsodeError(
                f"the adapter's target {name[:100]!r} is no matrix of this model's blocks",
                f"choose among {', '.join(known)}, or {ALL_LINEAR}",
            )
