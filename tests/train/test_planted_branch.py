"""The planted branch: one that lies beside its twin, in the same tree, must be no easier to predict."""

import math

import torch
from tests.conftest import make_spec, make_trees

from rhapsode.kernels.cross_entropy import IGNORE
from rhapsode.model.decoder import Decoder
from rhapsode.model.initialise import initialise
from rhapsode.train.objective import Batch, NextToken, next_token
from rhapsode.train.objectives.loss import Loss

VOCAB, TRUNK, LENGTH, ROWS, STEPS = 16, 3, 12, 32, 100
CHANCE = math.log(VOCAB)


class Crossing(NextToken):
    """Next-token training with the mistake: a tree is treated as one document."""

    def __call__(self, model: Decoder, batch: Batch) -> Loss:
        return super().__call__(model, batch._replace(branches=torch.zeros_like(batch.branches)))


def rows_of_twins(random: torch.Generator) -> Batch:
    """A short trunk and two branches of the same random tokens; the targets are the second one's."""
    trees = make_trees([[[TRUNK, LENGTH, LENGTH]]] * ROWS, width=TRUNK + 2 * LENGTH)
    trunk = torch.randint(0, VOCAB, (ROWS, TRUNK), generator=random)
    branch = torch.randint(0, VOCAB, (ROWS, LENGTH + 1), generator=random)
    ids = torch.cat((trunk, branch[:, :-1], branch[:, :-1]), 1)
    targets = torch.cat((torch.full((ROWS, TRUNK + LENGTH), IGNORE), branch[:, 1:]), 1)
    return Batch(ids, targets, trees.positions, trees.documents, trees.branches)


def loss_on_twins(objective: NextToken) -> float:
    """Train on such rows; the loss on fresh ones, in nats a token."""
    spec = make_spec(family="llama", vocab_size=VOCAB, width=64, heads=4, kv_heads=4, head_dim=16, ffn=64, tied=False)
    model, random = Decoder(spec), torch.Generator().manual_seed(0)
    initialise(model, seed=0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.0)
    for _ in range(STEPS):
        loss = objective(model, rows_of_twins(random))
        (loss.total / loss.num_terms).backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        fresh = [objective(model, rows_of_twins(random)) for _ in range(8)]
    return sum(float(loss.total) for loss in fresh) / sum(loss.num_terms for loss in fresh)


def test_a_twin_in_the_same_tree_makes_a_branch_no_easier_than_chance() -> None:
    assert loss_on_twins(next_token) > CHANCE - 0.02


def test_the_test_can_fail_a_mask_that_crosses_branches_learns_the_twin() -> None:
    assert loss_on_twins(Crossing()) < 0.5 * CHANCE
