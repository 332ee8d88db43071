import pytest
import torch
from torch import Tensor

from rhapsode.train.optimizer import AdamW, Both, Muon, Weight, orthogonalise


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def weights(*shapes: tuple[int, ...]) -> list[Weight]:
    return [Weight(f"w{i}", draw(*shape, seed=i), None) for i, shape in enumerate(shapes)]


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_adamw_is_torch_adamw(decay: float) -> None:
    ours = weights((5, 4), (7,), (3, 3))
    theirs = [torch.nn.Parameter(w.value.clone()) for w in ours]
    groups = [
        {"params": [p for p in theirs if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in theirs if p.ndim < 2], "weight_decay": 0.0},
    ]
    reference = torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.95), eps=1e-8)
    optimizer = AdamW(ours, learning_rate=0.01, weight_decay=decay)
    for step in range(20):
        scale = 1.0 - step / 30
        grads = [draw(*w.value.shape, seed=100 * step + i) * 10.0 ** (i - 1) for i, w in enumerate(ours)]
        for group in reference.param_groups:
            group["lr"] = 0.01 * scale
        for param, grad in zip(theirs, grads, strict=True):
            param.grad = grad.clone()
        reference.step()
        optimizer.step(grads, scale=scale)
    for weight, param in zip(ours, theirs, strict=True):
        torch.testing.assert_close(weight.value, param.detach(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 24, 8), (2, 8, 40), (1, 1, 5), (1, 64, 64)])
def test_orthogonalise_makes_singular_values_one_and_keeps_the_vectors(shape: tuple[int, ...]) -> None:
    u, _, vt = torch.linalg.svd(draw(*shape, seed=0), full_matrices=False)
    values = torch.linspace(1.0, 0.02, min(shape[-2:]), dtype=torch.float64)
    matrices = 37.0 * (u * values) @ vt
    out = orthogonalise(matrices, dtype=torch.float64)
    inner = u.mT @ out @ vt.mT  # in the basis of the singular vectors: diagonal, with values near one
    diagonal = torch.diagonal(inner, dim1=-2, dim2=-1)
    torch.testing.assert_close(inner, torch.diag_embed(diagonal), rtol=0, atol=1e-10)
    torch.testing.assert_close(out, u @ inner @ vt, rtol=0, atol=1e-10)
    assert float(diagonal.min()) > 0.85
    assert float(diagonal.max()) < 1.15


def test_orthogonalise_in_bfloat16_is_close_enough() -> None:
    matrices = draw(4, 48, 32, seed=1)
    u, _, vt = torch.linalg.svd(matrices, full_matrices=False)
    out = orthogonalise(matrices.float(), dtype=torch.bfloat16)
    assert out.dtype == torch.float32
    assert (out.double() - u @ vt).square().mean().sqrt() < 0.15 * (u @ vt).square().mean().sqrt()


def test_nothing_to_learn_moves_nothing() -> None:
    assert torch.equal(orthogonalise(torch.zeros(1, 4, 6), dtype=torch.float32), torch.zeros(1, 4, 6))


def test_muon_takes_stacked_rows_as_matrices_of_their_own() -> None:
    stacked = Weight("stacked", draw(28, 6, seed=0), 7)
    separate = [Weight(f"part{i}", p.clone(), 7) for i, p in enumerate(stacked.value.split(7))]
    together, apart = (
        Muon(w, learning_rate=0.02, weight_decay=0.1, dtype=torch.float64) for w in ([stacked], separate)
    )
    for step in range(5):
        grad = draw(28, 6, seed=10 + step)
        together.step([grad], scale=0.7)
        apart.step(list(grad.split(7)), scale=0.7)
    for weight, expected in zip(separate, stacked.value.split(7), strict=True):
        torch.testing.assert_close(weight.value, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(("shape", "norm"), [((8, 32), 1.0), ((16, 16), 1.0), ((64, 16), 2.0)])
def test_a_step_of_muon_has_the_documented_spectral_norm(shape: tuple[int, int], norm: float) -> None:
    weight = Weight("w", torch.zeros(shape, dtype=torch.float64), shape[0])
    Muon([weight], learning_rate=0.5, weight_decay=0.0, dtype=torch.float64).step([draw(*shape, seed=3)], scale=0.1)
    moved = torch.linalg.svdvals(weight.value) / (0.5 * 0.1 * norm)
    assert float(moved.min()) > 0.85
    assert float(moved.max()) < 1.15


def test_muon_with_momentum_by_hand() -> None:
    """Nesterov: the step follows grad + beta (momentum - grad), momentum being the running mean."""
    weight, grads = Weight("w", draw(6, 6, seed=0), 6), [draw(6, 6, seed=i) for i in (1, 2)]
    expected, mean = weight.value.clone(), torch.zeros(6, 6, dtype=torch.float64)
    muon = Muon([weight], learning_rate=0.1, weight_decay=0.5, momentum=0.9, dtype=torch.float64)
    for grad in grads:
        muon.step([grad], scale=1.0)
        mean = 0.9 * mean + 0.1 * grad
        step = orthogonalise((0.1 * grad + 0.9 * mean)[None], dtype=torch.float64)[0]
        expected = (1 - 0.1 * 0.5) * expected - 0.1 * step
    torch.testing.assert_close(weight.value, expected, rtol=1e-10, atol=1e-12)


def test_both_gives_each_weight_to_its_own() -> None:
    all_weights = [Weight("a", draw(4, 4, seed=0), 4), Weight("b", draw(5, seed=1), None)]
    before = [w.value.clone() for w in all_weights]
    muon = Muon(all_weights[:1], learning_rate=0.1, weight_decay=0.0, dtype=torch.float64)
    adamw = AdamW(all_weights[1:], learning_rate=0.3, weight_decay=0.0)
    both = Both(muon, adamw, is_matrix=[True, False])
    both.step([draw(4, 4, seed=2), draw(5, seed=3)], scale=1.0)
    assert torch.linalg.matrix_norm(all_weights[0].value - before[0], ord=2) == pytest.approx(0.1, rel=0.15)
    # Adam's first step is the rate in every coordinate
    torch.testing.assert_close((all_weights[1].value - before[1]).abs(), torch.full((5,), 0.3, dtype=torch.float64))
    assert set(both.state()) == {"muon.momentum/a", "adamw.first/b", "adamw.second/b"}


def test_state_that_was_saved_goes_on_to_the_same_bits() -> None:
    def make() -> tuple[list[Weight], Both]:
        made = [Weight("a", draw(4, 6, seed=0), 4), Weight("b", draw(5, 3, seed=1), None)]
        muon = Muon(made[:1], learning_rate=0.1, weight_decay=0.1)
        return made, Both(muon, AdamW(made[1:], learning_rate=0.3, weight_decay=0.1), is_matrix=[True, False])

    def grads(step: int) -> list[Tensor]:
        return [draw(4, 6, seed=10 + step), draw(5, 3, seed=20 + step)]

    through, optimizer = make()
    for step in range(3):
        optimizer.step(grads(step), scale=1.0)
    resumed, other = make()
    for weight, source in zip(resumed, through, strict=True):
        weight.value.copy_(source.value)
    other.load({name: moment.clone() for name, moment in optimizer.state().items()}, steps=3)
    for step in range(3, 6):
        optimizer.step(grads(step), scale=1.0)
        other.step(grads(step), scale=1.0)
    assert all(torch.equal(a.value, b.value) for a, b in zip(through, resumed, strict=True))
