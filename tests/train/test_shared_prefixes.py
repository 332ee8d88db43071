"""What training computes of sequences that begin alike is the same whether or not they share their beginning."""

from typing import Any

import numpy as np
import pytest
import torch
from tests.conftest import make_decoder, make_spec, make_trees
from torch import Tensor

from rhapsode.corpus.packing import Tree, batch, pack_trees
from rhapsode.corpus.prefixes import share_beginnings
from rhapsode.kernels import native
from rhapsode.kernels.cross_entropy import IGNORE
from rhapsode.model.decoder import Decoder
from rhapsode.train.objective import Batch, next_token, to_batch

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


class Examples:
    """Prompts that begin alike in groups, and answers."""

    def __init__(self) -> None:
        random = np.random.default_rng(0)
        starts = [random.integers(3, 96, length) for length in (40, 25, 40)]
        starts[2][:30] = starts[0][:30]
        self.ids = [np.concatenate((starts[i % 3], random.integers(3, 96, 4 + i % 9))) for i in range(24)]
        self.masks = [np.arange(len(ids)) >= len(ids) - 3 for ids in self.ids]
        self.lengths = np.array([len(ids) for ids in self.ids])

    def document(self, index: int) -> Any:
        return self.ids[index]

    def learned(self, index: int) -> Any:
        return self.masks[index]


@pytest.mark.parametrize(("dtype", "most"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
def test_examples_that_share_what_they_begin_with_teach_what_they_teach_alone(dtype: torch.dtype, most: float) -> None:
    model, split = make_decoder(make_spec(context=256), std=0.1, dtype=dtype), Examples()
    everything, found, sizes = range(len(split.ids)), [], []
    for grown in (
        share_beginnings(split, everything, context=128, least=20),
        [Tree((index,), 0) for index in everything],
    ):
        packing = pack_trees(grown, split.lengths, context=128, num_targets=3 * len(split.ids))
        rows = to_batch(batch(split, packing, range(packing.num_rows), pad=0), device=torch.device("cpu"))
        found.append(loss_and_gradients(model, rows.split(2)))
        sizes.append(packing.num_places)
    (total, terms, gradients), (expected, expected_terms, wanted) = found
    assert terms == expected_terms == 3 * len(split.ids)
    assert sizes[0] < 0.5 * sizes[1]
    assert total == pytest.approx(expected, rel=most / 10)
    assert torch.linalg.vector_norm(gradients - wanted) < most * torch.linalg.vector_norm(wanted)
