"""What training computes of sequences that begin alike is the same whether or not they share their beginning."""

import pytest
import torch
from tests.conftest import make_decoder, make_spec, make_trees
from torch import Tensor

from rhapsode.kernels import native
from rhapsode.kernels.cross_entropy import IGNORE
from rhapsode.model.decoder import Decoder
from rhapsode.train.objective import Batch, next_token

TREES = make_trees([[[40, 13, 30, 9], [0, 25], [6, 5, 5]], [[70, 33, 20]]], width=140)
IDS = torch.randint(3, 96, TREES.documents.shape, generator=torch.Generator().manual_seed(0))


def as_tree() -> Batch:
    """A target at every place of a branch."""
    targets = torch.where(TREES.branches > 0, (IDS * 7 + 5) % 96, IGNORE)
    return Batch(IDS, targets, TREES.positions, TREES.documents, TREES.branches)


def as_documents() -> list[Batch]:
    """Every sequence in a row of its own, with the targets of its branch."""
    whole, found = as_tree(), []
    for row in range(len(IDS)):
        for places in TREES.sequences(row):
            ids, targets, positions = (field[row, places][None] for field in whole[:3])
            found.append(Batch(ids, targets, positions, torch.ones_like(ids), torch.zeros_like(ids)))
    return found


def loss_and_gradients(model: Decoder, batches: list[Batch]) -> tuple[float, int, Tensor]:
    losses = [next_token(model, batch) for batch in batches if batch.num_targets]
    total = torch.stack([loss.total for loss in losses]).sum()
    gradients = torch.autograd.grad(total, list(model.parameters()))
    terms = sum(loss.num_terms for loss in losses)
    return float(total.detach()), terms, torch.cat([g.flatten() for g in gradients])


@pytest.mark.parametrize(
    ("dtype", "most"),
    [
        (torch.float64, 1e-9),
        pytest.param(torch.bfloat16, 0.02, marks=pytest.mark.skipif(not native.has_attention(), reason="not in C")),
    ],
)
def test_the_loss_of_trees_is_that_of_their_sequences(dtype: torch.dtype, most: float) -> None:
    model = make_decoder(make_spec(head_dim=32, context=256), std=0.1, dtype=dtype)
    total, terms, gradients = loss_and_gradients(model, [as_tree()])
    expected, expected_terms, wanted = loss_and_gradients(model, as_documents())
    assert terms == expected_terms == int((TREES.branches > 0).sum())
    assert total == pytest.approx(expected, rel=most / 10)
    assert torch.linalg.vector_norm((gradients - wanted).double()) < most * torch.linalg.vector_norm(wanted.double())
