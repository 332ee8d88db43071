"""A tree of sequences is, in the whole model, what its sequences are one by one."""

from collections.abc import Iterator

import pytest
import torch
from tests.conftest import make_decoder, make_trees
from tests.model.cases import CASES
from tests.model.conftest import ONE_OF_EACH
from torch import Tensor

from rhapsode.kernels.attention import DenseAttend
from rhapsode.model.decoder import Decoder
from rhapsode.model.families.registry import FAMILIES, spec_from_config
from rhapsode.model.spec import ModelSpec

TRUNK = 17
TREES = make_trees([[[TRUNK, 6, 3, 8], [0, 4, 2]], [[12, 9], [11], [1, 5, 2]]], width=42)
IDS = torch.randint(3, 80, TREES.documents.shape, generator=torch.Generator().manual_seed(0))
SLOPE = torch.linspace(-1, 1, IDS.numel(), dtype=torch.float64).view(IDS.shape)


def spec_of(family: str) -> ModelSpec:
    return spec_from_config(CASES[ONE_OF_EACH[family]])


def one_by_one(model: Decoder) -> Iterator[tuple[tuple[int, list[int]], Tensor]]:
    """The row and the places of every sequence, and its hidden states [L,D] when there is nothing else in the row."""
    for row in range(len(IDS)):
        for places in TREES.sequences(row):
            ids = IDS[row, places][None]
            attend = DenseAttend(torch.ones_like(ids), dtype=torch.float64)
            yield (row, places), model(ids, torch.arange(len(places))[None], attend=attend)[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_values_and_gradients_are_those_of_the_sequences(family: str) -> None:
    model = make_decoder(spec_of(family), dtype=torch.float64)
    attend = DenseAttend(TREES.documents, TREES.branches, dtype=torch.float64)
    hidden = model(IDS, TREES.positions, attend=attend)
    total = hidden.new_zeros(())
    counted = TREES.documents == 0
    for (row, places), alone in one_by_one(model):
        if TREES.documents[row, places[0]] > 0:
            torch.testing.assert_close(hidden[row, places], alone, rtol=1e-9, atol=1e-9)
            is_new = ~counted[row, places]  # a trunk's loss counts once
            total = total + (alone.sum(-1) * SLOPE[row, places])[is_new].sum()
            counted[row, places] = True
    assert counted.all()
    of_tree = (hidden.sum(-1) * SLOPE)[TREES.documents > 0].sum()
    parameters = list(model.parameters())
    found, expected = (torch.autograd.grad(x, parameters, materialize_grads=True) for x in (of_tree, total))
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-9)


def test_trunks_here_are_longer_than_the_windows_of_gemma() -> None:
    windows = {layer.window for layer in spec_of("gemma3_text").layers}
    assert None in windows
    assert all(window is None or window < TRUNK for window in windows)
