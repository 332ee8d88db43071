"""What is forecast before anything is allocated, against what is really there."""

import dataclasses
import math

import pytest
import torch
from tests.conftest import make_decoder, make_spec
from tests.model.cases import CASES
from tests.train.conftest import make_plan

from rhapsode.kernels.attention import DenseAttend
from rhapsode.model.adapter_spec import AdapterSpec
from rhapsode.model.families.registry import spec_from_config
from rhapsode.model.spec import ModelSpec
from rhapsode.train.forecast import disk_bytes, memory_floor, moments, operations_per_token
from rhapsode.train.masters import WholeMasters
from rhapsode.train.settle import activations
from rhapsode.train.trainer import Data, make_optimizer

SPECS = {
    "qwen3": make_spec(width=256, heads=4, kv_heads=2, head_dim=64, ffn=704, depth=3),
    "untied": make_spec(family="llama", width=128, heads=4, kv_heads=4, head_dim=32, ffn=352, tied=False),
    "gpt2": spec_from_config(CASES["gpt2"]),
    "mixture": spec_from_config(CASES["mixtral"]),
    "gemma3": spec_from_config(CASES["gemma3"] | {"hidden_size": 128, "intermediate_size": 384}),
}


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_the_optimizers_numbers_are_counted_exactly(spec: ModelSpec, optimizer: str) -> None:
    plan = dataclasses.replace(make_plan(vocab_size=96, optimizer=optimizer), spec=spec)
    masters = WholeMasters(make_decoder(spec))
    assert sum(w.value.numel() for w in masters.weights) == spec.parameters
    kept = sum(moment.numel() for moment in make_optimizer(plan, masters).state().values())
    assert moments(plan) == kept
    assert disk_bytes(plan) == 4 * (spec.parameters + kept) * 3  # a run of six steps saves three times


@pytest.mark.parametrize(
    ("steps", "save_every", "keep", "keep_every", "most"),
    [
        (100, 10, 2, None, 4),  # the newest two, the best, the one that is written
        (100, 10, 2, 25, 8),  # and those of steps 25, 50, 75 and 100
        (100, 100, 2, None, 1),
        (100, 99, 2, None, 2),
        (12, 4, 9, 6, 4),  # 4, 6, 8 and 12: all that there are
    ],
)
def test_the_disk_holds_what_stays_and_what_is_written(
    steps: int, save_every: int, keep: int, keep_every: int | None, most: int
) -> None:
    changes = {"steps": steps, "save_every": save_every, "keep": keep, "keep_every": keep_every}
    plan = make_plan(vocab_size=96, **changes)
    assert disk_bytes(plan) == most * 4 * (plan.spec.parameters + moments(plan))
    saved = sum(map(plan.saves_at, range(1, steps + 1)))
    assert most <= saved


def test_the_floor_knows_a_large_vocabulary() -> None:
    small, large = (make_plan(vocab_size=vocab, optimizer="adamw", precision="fp32") for vocab in (1_000, 2_000))
    rows = 1_000 * small.spec.width
    scores = 4 * 1_000 * small.micro_batch_rows * small.context
    saved = 4 * (1 + 2 + 1) * rows  # a copy of the weights and their two moments, and the model that is asked
    assert memory_floor(large) - memory_floor(small) == (6 * 4 + 4) * rows + scores + saved


@pytest.mark.parametrize("name", ["qwen3", "untied", "gemma3"])
def test_what_a_token_leaves_in_memory_is_about_as_estimated(name: str) -> None:
    spec, tokens = SPECS[name], 64
    model = make_decoder(spec)
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def count(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes() // 4
        return tensor

    ids = torch.zeros((1, tokens), dtype=torch.long)
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        hidden = model(ids, ids, attend=DenseAttend(ids + 1, dtype=torch.float32))
    assert math.isfinite(float(hidden.detach().sum()))
    assert sum(kept.values()) / tokens == pytest.approx(activations(spec), rel=0.3)


def test_what_is_only_read_costs_no_projection_and_what_is_frozen_no_gradient(data: Data) -> None:
    plan = make_plan(vocab_size=data.tokenizer.vocab_size)
    spec, packing = plan.spec, data.training
    assert operations_per_token(plan, packing) == pytest.approx(spec.flops_per_token(plan.context))
    head = 6 * spec.vocab_size * spec.width
    half = dataclasses.replace(packing, num_targets=packing.num_places // 2)
    expected = 2 * (spec.flops_per_token(plan.context) - head) + head
    assert operations_per_token(plan, half) == pytest.approx(expected, rel=0.01)
    adapted = dataclasses.replace(plan, adapter=AdapterSpec(rank=2, alpha=4))
    assert operations_per_token(adapted, half) == pytest.approx(2 / 3 * expected, rel=0.01)
    preferring = dataclasses.replace(adapted, objective={"name": "dpo"})
    assert operations_per_token(preferring, half) == pytest.approx(expected, rel=0.01)
