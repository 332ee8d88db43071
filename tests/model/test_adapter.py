"""What an adapter promises of itself: it begins as the base, and it alone is trained."""

import dataclasses
import math
from collections.abc import Callable

import pytest
import torch
from tests.conftest import make_decoder, make_spec, positions_of, random_documents
from tests.model.adapted import KINDS, learnt, make_adapted, stir
from tests.model.cases import CASES
from tests.model.conftest import ONE_OF_EACH, dense_logits
from torch import Tensor

from rhapsode.core.errors import RhapsodeError
from rhapsode.kernels.frozen import STORAGES, Storage
from rhapsode.model.adapted_linear import AdaptedLinear
from rhapsode.model.adapter import adapt, freeze, targets
from rhapsode.model.adapter_spec import AdapterSpec
from rhapsode.model.decoder import Decoder
from rhapsode.model.families.registry import spec_from_config
from rhapsode.model.parameters import parts
from rhapsode.train.objective import Batch, next_token

IDS = torch.randint(0, 96, (2, 20), generator=torch.Generator().manual_seed(0))
ROUNDED = AdapterSpec(rank=4, alpha=8)


def make_batch() -> Batch:
    documents = random_documents((2, 20), seed=3)
    return Batch(IDS, IDS.roll(-1, 1), positions_of(documents), documents, IDS * 0)


def adapted_modules(model: Decoder) -> list[AdaptedLinear]:
    return [module for module in model.modules() if isinstance(module, AdaptedLinear)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_adapted_model_begins_as_its_base(kind: str, dtype: torch.dtype) -> None:
    model = make_decoder(make_spec(), dtype=dtype)
    before = dense_logits(model, IDS)
    adapt(model, KINDS[kind], seed=0)
    after = dense_logits(model, IDS)
    if KINDS[kind].kind == "lora":
        assert torch.equal(before, after)
    else:  # lengths of rows are sums that come out differently by an ulp
        torch.testing.assert_close(
            before, after, rtol=2e-2 if dtype == torch.bfloat16 else 1e-4, atol=0.1 if dtype == torch.bfloat16 else 1e-4
        )


def test_equal_seeds_give_equal_bytes_and_others_do_not() -> None:
    found = []
    for seed in (0, 0, 1):
        model = make_decoder(make_spec())
        adapt(model, ROUNDED, seed=seed)
        found.append({name: value.detach() for name, value in learnt(model)})
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    assert not any(torch.equal(value, found[2][name]) for name, value in found[0].items() if name.endswith(".A"))


def test_the_first_numbers_are_those_of_peft() -> None:
    """Kaiming's uniform with a = sqrt(5) is uniform within 1 / sqrt(columns)."""
    model = make_decoder(make_spec(width=64))
    adapt(model, AdapterSpec(rank=32, alpha=1), seed=0)
    for name, value in model.state_dict().items():
        if name.endswith(".A"):
            bound = 1 / math.sqrt(value.shape[1])
            assert 0.95 * bound < float(value.abs().max()) <= bound
            assert abs(float(value.std()) * math.sqrt(3) / bound - 1) < 0.05
        elif name.endswith(".B"):
            assert not value.any()


def test_parameters_are_named_after_modules_on_disk() -> None:
    model = make_decoder(make_spec(depth=1))
    adapt(model, AdapterSpec(rank=2, alpha=1, targets=("v_proj", "down_proj"), kind="dora"), seed=0)
    assert {name: tuple(value.shape) for name, value in learnt(model)} == {
        "layers.0.attention.qkv.adapters.v_proj.A": (2, 32),
        "layers.0.attention.qkv.adapters.v_proj.B": (16, 2),
        "layers.0.attention.qkv.adapters.v_proj.magnitude": (16,),
        "layers.0.ffn.down.adapters.down_proj.A": (2, 48),
        "layers.0.ffn.down.adapters.down_proj.B": (32, 2),
        "layers.0.ffn.down.adapters.down_proj.magnitude": (32,),
    }


@pytest.mark.parametrize("kind", KINDS)
def test_frozen_weights_get_no_gradient_and_never_move(kind: str) -> None:
    model = make_adapted(make_spec(), KINDS[kind])
    frozen = {name: value.detach().clone() for name, value in model.named_parameters() if not value.requires_grad}
    assert set(frozen) == {name for name, _ in make_decoder(make_spec()).named_parameters()}
    next_token(model, make_batch()).total.backward()
    for name, value in model.named_parameters():
        assert (value.grad is not None) is value.requires_grad, name
        if value.grad is not None:
            assert value.grad.any(), name
    assert all(torch.equal(value, model.get_parameter(name)) for name, value in frozen.items())


def test_nothing_of_the_size_of_a_matrix_is_kept_for_the_backward_pass() -> None:
    """Of the matrices of the model there are only those that it has; the vocabulary gets no gradient either."""
    spec = make_spec(vocab_size=701, width=44, ffn=88)
    matrices = {tuple(value.shape) for _, value in make_decoder(spec).named_parameters() if value.ndim == 2}
    for is_adapted in (True, False):
        model = make_adapted(spec, ROUNDED) if is_adapted else make_decoder(spec)
        own = {value.data_ptr() for value in model.parameters()}
        kept: list[Tensor] = []

        def keep(tensor: Tensor, kept: list[Tensor] = kept) -> Tensor:
            kept.append(tensor)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            next_token(model, make_batch())
        new = [tensor for tensor in kept if tuple(tensor.shape) in matrices and tensor.data_ptr() not in own]
        assert bool(new) is not is_adapted  # a model that is trained whole keeps the gradient of its vocabulary


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_the_whole_matrix_seen_through_the_product(kind: str) -> None:
    """With G the gradient of W' = stretch (W + s B A): that of B is s G A^T, that of A is s B^T G, G stretched."""
    adapter, spec = KINDS[kind], make_spec()
    model = make_adapted(spec, adapter, dtype=torch.float64)
    whole = make_decoder(spec, dtype=torch.float64)
    with torch.no_grad():
        for name, value in whole.named_parameters():
            owner = model.get_submodule(name.rpartition(".")[0])
            merges = isinstance(owner, AdaptedLinear) and name.endswith("weight")
            value.copy_(owner.merged(torch.float64) if merges else model.get_parameter(name))
    losses = [next_token(each, make_batch()).total for each in (model, whole)]
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-12, atol=0)
    for loss in losses:
        loss.backward()
    for target in targets(spec, adapter):
        module = model.get_submodule(target.owner)
        assert isinstance(module, AdaptedLinear)
        part = next(part for part in module.parts if part.place == target.place)
        weight = module.matrix.dense(torch.float64)[part.pair.rows]
        G = whole.get_parameter(f"{target.owner}.weight").grad[part.pair.rows]
        learnt_rows = weight + adapter.scale * part.B @ part.A
        if part.magnitude is not None:
            length = torch.linalg.vector_norm(learnt_rows, dim=1, keepdim=True)
            torch.testing.assert_close(part.magnitude.grad, (G * learnt_rows / length).sum(1), rtol=1e-8, atol=1e-10)
            G = G * part.magnitude[:, None] / length
        torch.testing.assert_close(part.B.grad, adapter.scale * G @ part.A.T, rtol=1e-8, atol=1e-10)
        torch.testing.assert_close(part.A.grad, adapter.scale * part.B.T @ G, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_a_stored_base_computes_and_learns_as_the_matrices_that_it_stands_for(kind: str, storage: Storage) -> None:
    spec, adapter = make_spec(), KINDS[kind]
    stored = make_adapted(spec, adapter, dtype=torch.float64, storage=storage)
    plain = make_decoder(spec, dtype=torch.float64)
    with torch.no_grad():
        for name, value in plain.named_parameters():
            owner = stored.get_submodule(name.rpartition(".")[0])
            is_stored = isinstance(owner, AdaptedLinear) and name.endswith("weight")
            value.copy_(owner.matrix.dense(torch.float64) if is_stored else stored.get_parameter(name))
    adapt(plain, adapter, seed=0)
    plain.load_state_dict(dict(learnt(stored)), strict=False)
    for model in (stored, plain):
        next_token(model, make_batch()).total.backward()
    torch.testing.assert_close(dense_logits(stored, IDS), dense_logits(plain, IDS), rtol=1e-9, atol=1e-9)
    grads = [{name: value.grad for name, value in learnt(model)} for model in (stored, plain)]
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("storage", STORAGES)
def test_a_stored_base_takes_the_memory_of_its_storage(storage: Storage) -> None:
    model = make_decoder(make_spec(width=64, ffn=128))
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and name.startswith("layers.")]
    numbers = sum(p.numel() for p in matrices)
    freeze(model, storage=storage)
    assert len(list(model.parameters())) + len(matrices) == len(list(make_decoder(make_spec()).parameters()))
    bits = {"bf16": 16, "int8": 8, "int4": 4.5}[storage]
    taken = 8 * sum(module.matrix.num_bytes for module in adapted_modules(model)) / numbers
    assert bits <= taken < bits + 0.5
    model.to(torch.bfloat16)
    assert 8 * sum(module.matrix.num_bytes for module in adapted_modules(model)) / numbers == taken


@pytest.mark.parametrize("family", ONE_OF_EACH)
def test_all_linear_hits_every_matrix_of_the_blocks(family: str) -> None:
    spec = spec_from_config(CASES[ONE_OF_EACH[family]])
    if any(layer.experts for layer in spec.layers):
        with pytest.raises(RhapsodeError, match="experts"):
            targets(spec, ROUNDED)
        return
    model = Decoder(spec)
    matrices = {
        part.name.removesuffix(".weight")
        for name, value in model.named_parameters()
        if name.startswith("layers.") and value.ndim == 2
        for part in parts(name, spec)
    }
    assert {target.module for target in targets(spec, ROUNDED)} == matrices


def test_a_mixture_can_have_its_attention_adapted() -> None:
    spec = spec_from_config(CASES["qwen3_moe"])
    found = targets(spec, dataclasses.replace(ROUNDED, targets=("q_proj", "o_proj")))
    assert {target.name for target in found} == {"q_proj", "o_proj"}
    assert len(found) == 2 * len(spec.layers)


@pytest.mark.parametrize(
    ("names", "layers", "count"),
    [
        (("q_proj",), None, 2),
        (("self_attn.q_proj", "mlp.down_proj"), (0,), 2),
        (("model.layers.1.self_attn.q_proj",), None, 1),
        (("model.layers.1.self_attn.q_proj",), (0,), 1),
        (("all-linear",), (1,), 7),
    ],
)
def test_names_are_hit_by_their_ends_as_peft_does(
    names: tuple[str, ...], layers: tuple[int, ...] | None, count: int
) -> None:
    assert len(targets(make_spec(), AdapterSpec(rank=1, alpha=1, targets=names, layers=layers))) == count


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AdapterSpec(rank=0, alpha=1), "rank is 0"),
        (lambda: AdapterSpec(rank=1, alpha=0), "alpha is 0"),
        (lambda: AdapterSpec(rank=1, alpha=1, dropout=0.1), "dropout is 0.1"),
        (lambda: AdapterSpec(rank=1, alpha=1, targets=()), "targets are"),
        (lambda: AdapterSpec(rank=1, alpha=1, targets=("all-linear", "q_proj")), "all-linear and nothing else"),
        (lambda: AdapterSpec(rank=1, alpha=1, kind="vera"), "kind is 'vera'"),  # type: ignore[arg-type]
        (
            lambda: targets(make_spec(), AdapterSpec(rank=1, alpha=1, targets=("q_porj",))),
            "q_porj.*choose among.*q_proj",
        ),
        (lambda: targets(make_spec(), AdapterSpec(rank=1, alpha=1, targets=("lm_head",))), "lm_head"),
        (lambda: targets(make_spec(), AdapterSpec(rank=1, alpha=1, layers=(0, 2))), "name 2, the model has 0 to 1"),
        (lambda: targets(make_spec(), AdapterSpec(rank=1, alpha=1, layers=())), "hits no module"),
    ],
)
def test_what_cannot_be_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(RhapsodeError) as caught:
        make()
    said = f"{caught.value.message} {caught.value.hint}"
    assert all(word in said for word in message.split(".*"))


def test_a_refusal_leaves_the_model_as_it_was() -> None:
    model = make_decoder(make_spec())
    with pytest.raises(RhapsodeError):
        adapt(model, AdapterSpec(rank=1, alpha=1, targets=("nothing",)), seed=0)
    assert all(value.requires_grad for value in model.parameters())
    assert not adapted_modules(model)


def test_a_row_of_nothing_stays_nothing_under_dora() -> None:
    model = make_decoder(make_spec())
    with torch.no_grad():
        model.layers[0].attention.out.weight[3] = 0
    adapt(model, KINDS["dora"], seed=0)
    next_token(model, make_batch()).total.backward()
    assert all(torch.isfinite(value.grad).all() for _, value in learnt(model))
    stir(model, seed=0)
    assert torch.isfinite(dense_logits(model, IDS)).all()
