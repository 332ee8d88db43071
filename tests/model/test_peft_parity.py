"""LoRA, rsLoRA and DoRA are PEFT's: the same outputs and the same gradients, of one layer and of whole models."""

import copy

import pytest
import torch
from tests.model.adapted import KINDS, learnt, stir
from tests.model.conftest import TOLERANCE, dense_logits, filled, twin
from torch import Tensor, nn

from rhapsode.kernels.cross_entropy import IGNORE
from rhapsode.model.adapted_linear import AdaptedLinear, Place
from rhapsode.model.adapter import adapt, targets
from rhapsode.model.adapter_spec import AdapterSpec
from rhapsode.model.decoder import Decoder
from rhapsode.model.linear import Linear
from rhapsode.train.objective import Batch, next_token

peft = pytest.importorskip("peft", reason="peft, with which adapters are compared, is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")  # of peft's making

CASES = ("llama", "qwen3", "gemma3", "gpt2", "phi3")
LORA = {"A": "lora_A.default.weight", "B": "lora_B.default.weight", "magnitude": "lora_magnitude_vector.default.weight"}


class OneLayer(nn.Module):
    """What PEFT can adapt."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.layer = nn.Linear(*weight.shape[::-1], bias=bias is not None, dtype=weight.dtype)
        self.layer.weight.data.copy_(weight)
        if bias is not None:
            self.layer.bias.data.copy_(bias)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x)
        return out


def their_config(adapter: AdapterSpec) -> object:
    names = "all-linear" if adapter.targets == ("all-linear",) else list(adapter.targets)
    return peft.LoraConfig(
        r=adapter.rank,
        lora_alpha=adapter.alpha,
        target_modules=names,
        use_dora=adapter.kind == "dora",
        use_rslora=adapter.is_rslora,
        layers_to_transform=None if adapter.layers is None else list(adapter.layers),
        task_type=None,
    )


@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("kind", ["lora", "rslora", "dora"])
def test_a_layer_is_theirs_number_for_number(kind: str, has_bias: bool) -> None:
    random, adapter = torch.Generator().manual_seed(0), KINDS[kind]

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random, dtype=torch.float64)

    base = Linear(7, 5, bias=has_bias, dtype=torch.float64)
    with torch.no_grad():
        for value in base.parameters():
            value.copy_(draw(*value.shape))
    theirs = peft.get_peft_model(
        OneLayer(base.weight.detach(), base.bias.detach() if has_bias else None),
        peft.LoraConfig(
            r=adapter.rank,
            lora_alpha=adapter.alpha,
            target_modules=["layer"],
            use_dora=adapter.kind == "dora",
            use_rslora=adapter.is_rslora,
        ),
    ).double()
    ours = AdaptedLinear(base, scale=adapter.scale)
    ours.add("layer", Place(0, 5), rank=adapter.rank, kind=adapter.kind, dtype=torch.float64, random=random)
    (part,) = ours.parts
    found = {name: theirs.get_parameter(f"base_model.model.layer.{LORA[name]}") for name, _ in part.named_parameters()}
    torch.testing.assert_close(part.B, found["B"], rtol=0, atol=0)
    if part.magnitude is not None:
        torch.testing.assert_close(part.magnitude, found["magnitude"], rtol=1e-12, atol=0)
    with torch.no_grad():
        for name, value in part.named_parameters():
            value.copy_(draw(*value.shape))
            found[name].copy_(value)
    x, weigh = draw(2, 4, 7), draw(2, 4, 5)
    outs = []
    for module, params in ((ours, list(part.parameters())), (theirs, list(found.values()))):
        given = x.clone().requires_grad_()
        out = module(given)
        outs.append([out.detach(), *torch.autograd.grad((out * weigh).sum(), [given, *params])])
    torch.testing.assert_close(outs[0], outs[1], rtol=1e-11, atol=1e-12)
    merged = nn.functional.linear(x, ours.merged(torch.float64), ours.bias)
    torch.testing.assert_close(merged, outs[0][0], rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("kind", ["lora", "rslora", "dora"])
def test_a_whole_model_is_theirs_in_float64(kind: str) -> None:
    """PEFT's layers inside our own decoder, since transformers' norms are in float32 whatever the model computes in.

    In Phi-3 every matrix that the decoder stacks is one module on disk too, so the pairs are the same.
    """
    adapter, spec = KINDS[kind], twin("phi3").ours.spec
    ours, theirs = (filled(spec, twin("phi3").tensors).double() for _ in range(2))
    adapt(ours, adapter, seed=0)
    stir(ours, seed=2)
    owners = {target.owner for target in targets(spec, adapter)}
    peft.get_peft_model(
        theirs,
        peft.LoraConfig(
            r=adapter.rank,
            lora_alpha=adapter.alpha,
            target_modules=sorted(owners),
            use_dora=adapter.kind == "dora",
            use_rslora=adapter.is_rslora,
        ),
    )
    pairs = [
        (ours.get_parameter(target.parameter(name)), theirs.get_parameter(f"{target.owner}.{LORA[name]}"))
        for target in targets(spec, adapter)
        for name in target.tensors(adapter)
    ]
    with torch.no_grad():
        for mine, other in pairs:
            other.copy_(mine)
    ids = twin("phi3").ids
    batch = Batch(ids, ids.roll(-1, 1), torch.arange(ids.shape[1]).expand_as(ids), torch.ones_like(ids), ids * 0)
    losses = [next_token(model, batch).total for model in (ours, theirs)]
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-11, atol=0)
    grads = [torch.autograd.grad(loss, [pair[i] for pair in pairs]) for i, loss in enumerate(losses)]
    for mine, other in zip(*grads, strict=True):
        assert torch.linalg.vector_norm(mine - other) <= 1e-9 * torch.linalg.vector_norm(other)


def adapted_twins(case: str, adapter: AdapterSpec) -> tuple[Decoder, nn.Module]:
    """One adapted model twice, with the same learnt numbers."""
    found = twin(case)
    ours = filled(found.ours.spec, found.tensors)
    adapt(ours, adapter, seed=0)
    stir(ours, seed=5)
    theirs = peft.get_peft_model(copy.deepcopy(found.theirs), their_config(adapter))
    with torch.no_grad():
        for target in targets(ours.spec, adapter):
            for name in target.tensors(adapter):
                their_name = f"base_model.model.{target.module}.{LORA[name]}"
                theirs.get_parameter(their_name).copy_(ours.get_parameter(target.parameter(name)))
    trained = sum(p.requires_grad for p in theirs.parameters())
    assert trained == len(list(learnt(ours)))  # all-linear and every other name hit the same modules
    return ours, theirs


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", CASES)
def test_a_model_is_theirs(case: str, kind: str) -> None:
    adapter = KINDS[kind]
    if kind == "some" and case in ("gpt2", "phi3"):
        adapter = AdapterSpec(
            rank=2, alpha=5, targets=("attn.c_proj",) if case == "gpt2" else ("qkv_proj",), layers=(1,)
        )
    ours, theirs = adapted_twins(case, adapter)
    base, ids = twin(case), twin(case).ids
    expected = theirs(ids).logits
    assert (expected - base.logits).abs().max() > 0.5  # the adapter is seen
    torch.testing.assert_close(dense_logits(ours, ids), expected.detach(), rtol=0, atol=TOLERANCE)
    targets_BT = ids.roll(-1, 1).masked_fill(ids % 7 == 0, IGNORE)
    positions = torch.arange(ids.shape[1]).expand_as(ids)
    next_token(ours, Batch(ids, targets_BT, positions, torch.ones_like(ids), ids * 0)).total.backward()
    nn.functional.cross_entropy(expected.flatten(0, 1), targets_BT.flatten(), reduction="sum").backward()
    for target in targets(ours.spec, adapter):
        for name in target.tensors(adapter):
            mine = ours.get_parameter(target.parameter(name)).grad
            other = theirs.get_parameter(f"base_model.model.{target.module}.{LORA[name]}").grad
            assert mine is not None
            assert torch.linalg.vector_norm(mine - other) < 1e-3 * torch.linalg.vector_norm(other), target.module
