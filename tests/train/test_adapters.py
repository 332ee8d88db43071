"""Training an adapter: masters, gradients and moments exist for what is learnt, and for nothing else."""

from typing import Any

import pytest
import torch
from tests.conftest import make_decoder, make_spec, positions_of, random_documents
from tests.model.adapted import KINDS, learnt
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from rhapsode.kernels.frozen import Storage
from rhapsode.model.adapter import adapt
from rhapsode.model.adapter_spec import AdapterSpec
from rhapsode.model.decoder import Decoder
from rhapsode.train.masters import WholeMasters
from rhapsode.train.objective import Batch, next_token
from rhapsode.train.optimizer import AdamW, Muon, Optimizer
from rhapsode.train.recompute import recompute
from rhapsode.train.step import gradient, train_step

LORA = AdapterSpec(rank=4, alpha=8)


def make_batch(*, seed: int = 0) -> Batch:
    documents = random_documents((4, 24), seed=seed)
    ids = torch.randint(0, 96, documents.shape, generator=torch.Generator().manual_seed(seed))
    return Batch(ids, ids.roll(-1, 1), positions_of(documents), documents, torch.zeros_like(ids))


def make(adapter: AdapterSpec, *, dtype: torch.dtype, storage: Storage | None = None) -> tuple[Decoder, WholeMasters]:
    """As a run makes them: masters of a model in float32, which then computes in `dtype`."""
    model = make_decoder(make_spec(), std=0.1)
    adapt(model, adapter, seed=0, storage=storage)
    masters = WholeMasters(model)
    return model.to(dtype), masters


def optimizer_of(name: str, masters: WholeMasters) -> Optimizer:
    if name == "muon":
        return Muon([w for w in masters.weights if w.height], learning_rate=0.02, weight_decay=0.0)
    return AdamW(masters.weights, learning_rate=0.02, weight_decay=0.0)


@pytest.mark.parametrize("kind", KINDS)
def test_masters_hold_what_is_learnt_and_nothing_else(kind: str) -> None:
    model, masters = make(KINDS[kind], dtype=torch.bfloat16)
    trained = dict(learnt(model))
    assert [weight.name for weight in masters.weights] == list(trained) == list(masters.places)
    for weight, grad in zip(masters.weights, masters.grads, strict=True):
        assert weight.value.dtype == grad.dtype == torch.float32
        assert weight.value.shape == grad.shape == trained[weight.name].shape
        assert trained[weight.name].dtype == torch.bfloat16
        assert weight.height == (weight.value.shape[0] if weight.value.ndim == 2 else None)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("storage", [None, "int8", "int4"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_an_adapter_learns_and_its_base_does_not_move(
    optimizer: str, storage: Storage | None, dtype: torch.dtype
) -> None:
    model, masters = make(LORA, dtype=dtype, storage=storage)
    frozen = {name: value.clone() for name, value in model.state_dict().items() if "adapters" not in name}
    moves, batch = optimizer_of(optimizer, masters), make_batch()
    losses = [
        train_step(
            model, batch.split(2), objective=next_token, masters=masters, optimizer=moves, scale=1.0, clip=1.0
        ).loss
        for _ in range(25)
    ]
    assert losses[-1] < losses[0] - 0.5
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in frozen.items())
    for weight in masters.weights:
        assert torch.equal(model.get_parameter(weight.name), weight.value.to(dtype))


@pytest.mark.parametrize("kind", KINDS)
def test_any_split_gives_the_same_gradient_recomputed_or_not(kind: str) -> None:
    found = []
    for rows, is_recomputed in ((4, False), (1, False), (3, True)):
        model = make_decoder(make_spec(), dtype=torch.float64)
        adapt(model, KINDS[kind], seed=0)
        with torch.no_grad():
            for name, value in learnt(model):
                value.add_(0.1 * name.endswith(".B"))
        if is_recomputed:
            recompute(model)
        masters = WholeMasters(model)
        gradient(model, make_batch().split(rows), objective=next_token, masters=masters)
        found.append([grad.clone() for grad in masters.grads])
        assert all(grad.any() for grad in masters.grads)
    torch.testing.assert_close(found[1], found[0], rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(found[2], found[0], rtol=1e-9, atol=1e-11)


class Made(TorchDispatchMode):
    """Remembers the shapes of tensors that operators make in memory of their own."""

    def __init__(self, known: set[int]) -> None:
        super().__init__()
        self.known, self.shapes = known, set[tuple[int, ...]]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor) and leaf.untyped_storage().data_ptr() not in self.known:
                self.shapes.add(tuple(leaf.shape))
        return out


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_step_makes_no_tensor_of_the_shape_of_a_frozen_matrix(dtype: torch.dtype) -> None:
    model = make_decoder(make_spec(vocab_size=701, width=40, ffn=88, heads=5, kv_heads=1))
    adapt(model, LORA, seed=0)
    masters = WholeMasters(model)
    model.to(dtype)
    matrices = [p for p in model.parameters() if p.ndim == 2 and not p.requires_grad]
    shapes = {tuple(p.shape) for p in matrices} | {tuple(p.shape)[::-1] for p in matrices}
    with Made({p.untyped_storage().data_ptr() for p in model.parameters()}) as made:
        gradient(model, make_batch().split(4), objective=next_token, masters=masters)
    assert made.shapes
    assert not made.shapes & shapes
    assert all(p.grad is None for p in model.parameters())


def test_a_model_that_is_trained_whole_is_trained_as_before() -> None:
    model = make_decoder(make_spec())
    masters = WholeMasters(model)
    assert [weight.name for weight in masters.weights] == [name for name, _ in model.named_parameters()]
    heights = {weight.name: weight.height for weight in masters.weights}
    assert heights["layers.0.attention.qkv.weight"] == 8
    assert heights["embedding.weight"] is None
