import dataclasses
import math

import pytest
import torch
from tests.conftest import make_spec
from tests.model.cases import CASES

from rhapsode.kernels.attention import DenseAttend
from rhapsode.model.decoder import Decoder
from rhapsode.model.families.registry import spec_from_config
from rhapsode.model.initialise import embedding_std, initialise
from rhapsode.model.spec import ModelSpec


def initialised(spec: ModelSpec, *, seed: int) -> Decoder:
    model = Decoder(spec)
    initialise(model, seed=seed)
    return model


WIDE = make_spec(width=128, heads=2, kv_heads=1, head_dim=64, ffn=320, vocab_size=512, tied=False)


def test_equal_seeds_give_equal_bytes_whatever_else_draws_numbers() -> None:
    first = initialised(WIDE, seed=3)
    torch.randn(100)
    second, other = initialised(WIDE, seed=3), initialised(WIDE, seed=4)
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not torch.equal(first.embedding.weight, other.embedding.weight)
    assert not torch.equal(first.layers[0].attention.qkv.weight, other.layers[0].attention.qkv.weight)


@pytest.mark.parametrize(("width", "tied", "std"), [(128, True, 0.02), (512, True, 0.01), (512, False, 0.02)])
def test_every_weight_has_the_documented_spread(width: int, tied: bool, std: float) -> None:
    spec = dataclasses.replace(WIDE, width=width, tied=tied)
    assert embedding_std(spec) == std
    for name, weight in initialised(spec, seed=0).named_parameters():
        if name.endswith("norm.weight"):
            assert (weight == 1).all(), name
        elif name.endswith(("attention.out.weight", "ffn.down.weight")):
            assert (weight == 0).all(), name
        elif name == "embedding.weight":
            assert float(weight.detach().std()) == pytest.approx(std, rel=0.03)
        else:
            assert float(weight.detach().std()) == pytest.approx(weight.shape[1] ** -0.5, rel=0.03), name
            assert weight.abs().max() <= math.sqrt(3 / weight.shape[1]), name


@pytest.mark.parametrize("case", CASES)
def test_every_family_begins_as_it_should(case: str) -> None:
    """Nothing is left as it was, every block is the identity, norms do nothing, biases are nothing."""
    spec = spec_from_config(CASES[case])
    model = Decoder(spec)
    with torch.no_grad():
        for weight in model.parameters():
            weight.fill_(float("nan"))
    initialise(model, seed=0)
    for name, weight in model.named_parameters():
        assert weight.isfinite().all(), name
        if name.endswith("bias"):
            assert (weight == 0).all(), name
        elif weight.ndim == 1:
            assert (weight == (0 if spec.norm == "rms_offset" else 1)).all(), name
        elif ".experts_" in name and "down" not in name:
            assert float(weight.detach().std()) == pytest.approx(weight.shape[-1] ** -0.5, rel=0.1), name
    assert all((writer.weight == 0).all() for block in model.layers for writer in block.writers)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("width", [64, 256, 512, 1024])
@torch.no_grad()
def test_the_first_loss_is_about_that_of_a_uniform_guess(width: int, tied: bool) -> None:
    spec = make_spec(width=width, heads=1, kv_heads=1, head_dim=64, ffn=64, vocab_size=4096, tied=tied)
    model = initialised(spec, seed=0)
    ids = torch.randint(0, 4096, (4, 65), generator=torch.Generator().manual_seed(0))
    inputs, targets = ids[:, :-1], ids[:, 1:]
    attend = DenseAttend(torch.ones_like(inputs), dtype=torch.float32)
    scores = model.logits(model(inputs, torch.arange(64).expand_as(inputs), attend=attend))
    loss = float(torch.nn.functional.cross_entropy(scores.flatten(0, 1), targets.flatten()))
    assert loss == pytest.approx(math.log(4096), abs=0.6)
