import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from rhapsode.kernels.frozen import GROUP, STORAGES, Storage, Whole, store


def draw(rows: int, columns: int, *, seed: int, size: float = 1.0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(rows, columns, generator=random, dtype=torch.float64) * size


def step_sizes(weight: Tensor, storage: Storage) -> Tensor:
    """How far apart neighbours are that a storage can tell, number by number."""
    if storage == "bf16":
        return weight.abs() * 2**-7
    if storage == "int8":
        return (weight.abs().amax(1, keepdim=True) / 127).expand_as(weight)
    padded = torch.nn.functional.pad(weight, (0, -weight.shape[1] % GROUP)).unflatten(1, (-1, GROUP))
    steps = padded.abs().amax(-1, keepdim=True) / 8
    return steps.expand_as(padded).flatten(1)[:, : weight.shape[1]]


@given(
    rows=st.integers(1, 9),
    columns=st.integers(1, 100),
    storage=st.sampled_from(sorted(STORAGES)),
    size=st.sampled_from([1e-20, 1e-3, 1.0, 1e20]),
    seed=st.integers(0, 99),
)
def test_no_number_moves_by_more_than_a_step(rows: int, columns: int, storage: Storage, size: float, seed: int) -> None:
    weight = draw(rows, columns, seed=seed, size=size)
    matrix = store(weight, storage)
    assert matrix.shape == weight.shape
    # half a step from rounding, a whole one on the side that has seven of them; scales are rounded too
    most = (0.5 if storage != "int4" else 1.0) * step_sizes(weight, storage)
    assert bool(((matrix.dense(torch.float64) - weight).abs() <= most + 0.01 * weight.abs()).all())


@pytest.mark.parametrize("storage", STORAGES)
def test_what_it_can_tell_it_keeps(storage: Storage) -> None:
    weight = store(draw(8, 64, seed=0), storage).dense(torch.float64)
    assert torch.equal(store(weight, storage).dense(torch.float64), weight)
    nothing = torch.zeros(3, 40)
    assert torch.equal(store(nothing, storage).dense(torch.float32), nothing)


@pytest.mark.parametrize(("storage", "bits"), [("bf16", 16), ("int8", 8 + 16 / 512), ("int4", 4.5)])
def test_a_number_takes_so_many_bits(storage: Storage, bits: float) -> None:
    weight = draw(64, 512, seed=0)
    assert store(weight, storage).num_bytes * 8 == bits * weight.numel()
    assert Whole(weight).num_bytes == weight.nbytes


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_changing_the_type_that_computes_changes_nothing_that_is_kept(storage: Storage, dtype: torch.dtype) -> None:
    matrix = store(draw(5, 70, seed=1), storage)
    before, size = matrix.dense(torch.float64), matrix.num_bytes
    matrix.to(dtype)
    assert torch.equal(matrix.dense(torch.float64), before)
    assert matrix.num_bytes == size
    narrow = matrix.dense(torch.bfloat16)
    assert narrow.dtype == torch.bfloat16
    torch.testing.assert_close(narrow.double(), before, rtol=2**-7, atol=0)
