import pytest
import torch
from torch import Tensor

from rhapsode.kernels.linear import linear, linear_plain


def random(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape)), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("rows", [(1,), (7,), (2, 3), (0,), ()])
@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@torch.inference_mode()
def test_the_fast_product_is_the_plain_one(rows: tuple[int, ...], has_bias: bool, dtype: torch.dtype) -> None:
    x, weight = random(*rows, 48, dtype=dtype), random(33, 48, dtype=dtype)
    bias = random(33, dtype=dtype) if has_bias else None
    torch.testing.assert_close(linear(x, weight, bias), linear_plain(x, weight, bias), rtol=1e-5, atol=1e-5)


@torch.inference_mode()
def test_what_does_not_lie_in_one_piece_is_multiplied_too() -> None:
    x, weight = random(5, 48)[:, ::2], random(24, 33).t()
    torch.testing.assert_close(linear(x, weight), linear_plain(x, weight), rtol=1e-5, atol=1e-5)


@torch.inference_mode()
def test_a_row_is_what_it_is_alone() -> None:
    """What is asked together with others gets the answer that it gets alone, up to rounding."""
    x, weight = random(64, 96), random(80, 96)
    alone = torch.cat([linear(row, weight) for row in x.split(1)])
    torch.testing.assert_close(linear(x, weight), alone, rtol=1e-5, atol=1e-5)


def test_gradients_flow() -> None:
    weight = random(33, 48).requires_grad_()
    linear(random(5, 48), weight).sum().backward()
    assert weight.grad is not None
    assert weight.grad.isfinite().all()
